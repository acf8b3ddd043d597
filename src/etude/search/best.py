"""``etude retrain --best``: train the winner of a study, as a run like any other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from etude.config.load import load_config, parse_config
from etude.config.run import Config
from etude.core.observe import Reporter
from etude.data.table import join_tables
from etude.errors import RunError
from etude.kinds import kind_of
from etude.runs.folder import whole_file
from etude.runs.train import Result, train
from etude.search.results import BEST, WAY_OUT, read_study

ALL_DATA = "all_data.parquet"


def retrain_best(
    folder: Path,
    *,
    on_all_data: bool = False,
    directory: str | None = None,
    overrides: Sequence[str] = (),
    reporter: Reporter | None = None,
) -> Result:
    """Train the winner of a study.

    Args:
        folder: the study's.
        on_all_data: train on the validation rows as well, with the settings that they chose.
        directory: the run's folder; ``best`` in that of the study, or ``best-all-data``, if None.
        overrides: further changes of the config.
        reporter: who tells of progress.

    Raises:
        RunError: there is no finished study, or its validation rows cannot join the training rows.
        EtudeError: the run cannot be trained.
    """
    reporter = reporter or Reporter()
    record = read_study(folder)
    config = load_config(folder / BEST, overrides)
    confirmation = record["confirmation"]
    if not record["best"]["settings"]:
        reporter.line("the default won this study; it is trained as it is")
    elif confirmation is None or confirmation["verdict"] != "better":
        said = "was not confirmed" if confirmation is None else confirmation["sentence"]
        reporter.warn(f"these settings are the best of their trials, and no more is known: {said}")
    if on_all_data:
        config = with_all_data(config, folder, reporter)
    chosen = directory or (f"{folder}/best-all-data" if on_all_data else f"{folder}/best")
    tables = config.model_dump(mode="json", exclude_none=True)
    return train(parse_config({**tables, "run": {**tables["run"], "dir": chosen}}), reporter=reporter)


def with_all_data(config: Config, folder: Path, reporter: Reporter) -> Config:
    """Return the config without a validation part, whose rows are among the training rows.

    Nothing can be fitted on rows that are trained on: probabilities stay uncalibrated, decisions plain, and
    the last weights are kept.

    Args:
        config: with a validation part.
        folder: where the rows of two files are joined in one.
        reporter: is told what is lost.

    Raises:
        RunError: there is no validation part, or the two files cannot be one.
    """
    data = config.data
    if data.validation is False and data.folds is None:
        raise RunError(
            "all rows are training rows already, as data.validation is false; leave --on-all-data out"
        )
    tables: dict[str, Any] = config.model_dump(mode="json", exclude_none=True)
    tables["data"] |= {"validation": False}
    for key in ("folds", "fold"):
        tables["data"].pop(key, None)
    if isinstance(data.validation, str):
        tables["data"]["train"] = str(_joined(config, data.validation, folder))
    if config.train.final == "best":
        tables["train"]["final"] = "last"
        reporter.line('train.final = "best" has no validation scores to go by; the last weights are kept')
    reporter.line("trained on all rows: nothing is left to calibrate or to fit thresholds on")
    return parse_config(tables)


def _joined(config: Config, validation: str, folder: Path) -> Path:
    """Write the rows of the training and of the validation file as one file."""
    kind: str = config.backbone.kind
    if kind == "image":
        raise RunError(
            "the rows of two files of images cannot be joined, since they lie beside their files; give the "
            "validation part as a fraction of one file"
        )
    loader = kind_of(config).loader()
    both = join_tables([loader.open(config.data.train, "train"), loader.open(validation, "validation")])
    try:
        table = pa.table(dict(both.values))
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise RunError(
            f"{config.data.train} and {validation} cannot be one file: {error}; make their columns alike"
        ) from None
    path = folder / ALL_DATA
    with whole_file(path, WAY_OUT) as file:
        pq.write_table(table, file)
    return path

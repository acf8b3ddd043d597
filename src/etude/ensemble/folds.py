"""Folds: a model for each, trained on the others, and the ensemble of all of them with out-of-fold scores."""

from __future__ import annotations

from pathlib import Path

from etude.config.load import parse_config
from etude.config.run import Config
from etude.core.observe import Reporter
from etude.ensemble.make import Made, make_ensemble
from etude.errors import ConfigError
from etude.runs.folder import CONFIG, SUMMARY
from etude.runs.jobs import resume, train

ENSEMBLE = "ensemble"


def fold_folder(config: Config, fold: int) -> Path:
    """Where the run of a fold goes: into the folder of the config's run."""
    return Path(config.run.dir) / f"fold-{fold}"


def train_folds(
    config: Config,
    output: Path | None = None,
    *,
    method: str = "probabilities",
    reporter: Reporter | None = None,
) -> Made:
    """Train a run for each of ``data.folds`` and make an ensemble of them; runs that are there go on.

    Args:
        config: the run; its folder holds those of the folds.
        output: the ensemble's folder; beside the folds if None.
        method: ``probabilities`` or ``logits``.
        reporter: who tells of progress.

    Raises:
        ConfigError: there are no folds.
        EtudeError: a run cannot be trained.
    """
    n = config.data.folds
    if n is None:
        raise ConfigError(
            "an ensemble of folds needs data.folds, the number of them; add --set data.folds=5, or name "
            "finished runs"
        )
    reporter = reporter or Reporter()
    folders = [fold_folder(config, fold) for fold in range(n)]
    for fold, folder in enumerate(folders):
        if (folder / SUMMARY).is_file():
            reporter.line(f"fold {fold} of {n} is there: {folder}")
            continue
        reporter.line(f"fold {fold} of {n}: {folder}")
        if (folder / CONFIG).is_file():
            resume(folder, reporter=reporter)
            continue
        plain = config.model_dump(mode="json", exclude_none=True)
        plain["data"] = {**plain["data"], "fold": fold}
        plain["run"] = {**plain["run"], "dir": str(folder)}
        train(parse_config(plain), reporter=reporter)
    place = output or Path(config.run.dir) / ENSEMBLE
    return make_ensemble(folders, place, method=method, reporter=reporter)

"""Loading the inputs alone, for what learns without labels.

Where the training file has the label's column, its rows are split as a run with labels splits them: what such
a run holds out is not learned from here either. Labels decide nothing else. A file without that column is
taken as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from etude.config.run import REST, Config
from etude.core.examples import Examples
from etude.core.observe import Reporter
from etude.core.predict import Subset
from etude.core.rng import numpy_generator
from etude.core.task import Task
from etude.data.load import Data, load_data
from etude.data.loader import Loader
from etude.data.table import Table
from etude.errors import ConfigError, DataError


@dataclass(frozen=True)
class Inputs:
    """Rows whose labels are not looked at.

    Attributes:
        data: all that was read; its ``pool`` are the rows that were there to learn from.
        learned: the rows to learn from.
        held_out: the rows to measure on.
    """

    data: Data
    learned: Examples
    held_out: Examples


def load_inputs(config: Config, loader: Loader, task: Task, held_out: float, reporter: Reporter) -> Inputs:
    """Return the rows to learn from, and those to measure on.

    Args:
        config: the run's; ``data.unlabelled`` adds rows to those of ``data.train``.
        loader: of its kind of data, made anew.
        task: what the rows' targets belong to.
        held_out: fraction of the rows to measure on, where there is no validation part.
        reporter: shows bars.

    Raises:
        DataError: a file or an input cannot be used, or too few rows are left.
        ConfigError: the rows named do not exist without labels.
    """
    columns = config.data.labels
    table = loader.open(config.data.train, "train")
    labelled = {columns} if isinstance(columns, str) else set(columns)
    if labelled <= set(table.columns):
        data = load_data(config, loader, reporter, {"train": table})
    else:
        data = _without_labels(config, table, loader, task, reporter)
    if data.validation is not None:
        return Inputs(data, data.pool, data.validation)
    learned, measured = hold_out(len(data.pool), held_out, config.seed)
    if len(learned) == 0:
        raise DataError(
            f"{config.data.train} has {len(data.pool)} row(s) to learn from, and one of them is held out; "
            "add rows, or lower pretrain.held_out"
        )
    return Inputs(data, Subset(data.pool, learned), Subset(data.pool, measured))


def hold_out(n_rows: int, share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows to learn from and the rows to measure on, both ascending.

    >>> learned, measured = hold_out(10, 0.2, seed=0)
    >>> len(learned), len(measured)
    (8, 2)
    """
    order = numpy_generator(seed, "held out").permutation(n_rows)
    n_measured = max(round(share * n_rows), 1)
    return np.sort(order[n_measured:]), np.sort(order[:n_measured])


def _without_labels(config: Config, table: Table, loader: Loader, task: Task, reporter: Reporter) -> Data:
    """All rows of a file that has no labels, with those of ``data.unlabelled`` behind them."""
    data = config.data
    if data.splits_test or data.unlabelled == REST:
        key = "data.test" if data.splits_test else "data.unlabelled"
        raise ConfigError(
            f"{key} = {getattr(data, key[5:])!r} takes rows out of {table.path}, which has no column of "
            f"labels ({data.labels!r}) to split it by; remove {key}, or name the column in data.labels"
        )
    content = loader.read(table)
    loader.fit(content)
    tables = [(table, len(content))]
    if data.unlabelled is not None:
        more = loader.open(data.unlabelled, "unlabelled")
        content = content.join(loader.read(more))
        tables.append((more, more.rows))
    n, first = len(content), tables[0][1]

    def place(row: int) -> str:
        return table.line(row) if row < first else tables[-1][0].line(row - first)

    targets = np.zeros((n, task.n_classes), np.float32)
    examples = loader.prepare(content, targets, None, reporter, place)
    return Data(
        task=task,
        train=examples,
        validation=None,
        test=None,
        texts={},
        pairs={},
        rows={"train": np.arange(n)},
        class_counts=np.zeros(task.n_classes, np.int64),
        soft_targets=False,
        fitted=loader.fitted,
        warnings=[],
        pool=examples,
    )

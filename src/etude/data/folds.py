"""Folds: rows in k parts of one size, each of which may be held out in turn.

Folds are stratified as splits are: by class, iteratively for several labels, by whole groups. Folds in
time grow: a fold is measured by what was trained on the rows before it, so that nothing learns from the
future. Shapes: N rows, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from etude.core.rng import key, numpy_generator
from etude.core.task import Task
from etude.data.splits import Rows, two_columns
from etude.data.strata import (
    blocks_in_time,
    classes_of,
    count_strata,
    deal_groups,
    number_groups,
    strata_of,
)
from etude.errors import DataError


def make_folds(
    task: Task,
    targets: NDArray[np.float32],
    n_folds: int,
    *,
    groups: Sequence[str] | Rows | None = None,
    times: NDArray[np.float64] | None = None,
    seed: int,
) -> Rows:
    """Return the number of each row's fold.

    Args:
        task: tells whether a row has one label or any number of them.
        targets: (N, C) from 0 to 1; rows of zeros in a single-label task are a class of their own.
        n_folds: k.
        groups: (N,) rows of one group are in one fold.
        times: (N,) folds follow each other in time, in the manner of scikit-learn's ``TimeSeriesSplit``:
            the first of k + 1 stretches is only ever trained on, and its rows have the number -1. With
            groups, a group is where its latest row belongs.
        seed: keys the draws.

    Returns:
        (N,) from 0 to k - 1, or from -1 in time. Sizes differ by one row at most, but for several labels
        or groups, where they are near to each other. A class of fewer rows than folds is missing from some.

    Raises:
        DataError: there are fewer rows or groups than folds, or a stretch of time would be empty.

    >>> from etude.core.task import make_task
    >>> targets = np.eye(2, dtype=np.float32)[[0, 0, 0, 0, 1, 1]]
    >>> folds = make_folds(make_task("binary", ["no", "yes"]), targets, 2, seed=0)
    >>> [targets[folds == fold].sum(axis=0).tolist() for fold in (0, 1)]
    [[2.0, 1.0], [2.0, 1.0]]
    """
    if times is not None:
        return _in_time(blocks_in_time(times, groups), n_folds)
    if groups is not None:
        return _of_groups(task, targets, number_groups(groups), n_folds, seed)
    if len(targets) < n_folds:
        raise DataError(f"{len(targets)} rows cannot make {n_folds} folds; give at most as many as rows")
    if task.kind == "multilabel":
        return _iterative(targets, n_folds, seed)
    generator = numpy_generator(seed, "folds")
    shuffled = generator.permutation(len(targets))
    by_class = shuffled[np.argsort(classes_of(task, targets)[shuffled], kind="stable")]
    # Rows are dealt like cards, class after class: each class, and the whole, differ by one at most.
    folds = np.empty(len(targets), dtype=np.int64)
    folds[by_class] = generator.permutation(n_folds)[np.arange(len(targets)) % n_folds]
    return folds


def rows_of_fold(folds: Rows, fold: int, *, in_time: bool = False) -> tuple[Rows, Rows]:
    """Return the rows to train on and the rows of one fold.

    Args:
        folds: (N,) as :func:`make_folds` returns them.
        fold: the fold that is held out.
        in_time: whether to train on earlier rows only.

    >>> rows_of_fold(np.array([-1, 0, 1, 1]), 0, in_time=True)
    (array([0]), array([1]))
    """
    return np.flatnonzero(folds < fold if in_time else folds != fold), np.flatnonzero(folds == fold)


def _iterative(targets: NDArray[np.float32], n_folds: int, seed: int) -> Rows:
    from iterstrat.ml_stratifiers import MultilabelStratifiedKFold

    labels = two_columns(targets >= 0.5)
    splitter = MultilabelStratifiedKFold(n_folds, shuffle=True, random_state=key(seed, "folds") % 2**32)
    folds = np.empty(len(labels), dtype=np.int64)
    for fold, (_, held_out) in enumerate(splitter.split(labels, labels)):
        folds[held_out] = fold
    return folds


def _of_groups(task: Task, targets: NDArray[np.float32], groups: Rows, n_folds: int, seed: int) -> Rows:
    counts = count_strata(groups, strata_of(task, targets))
    if len(counts) < n_folds:
        raise DataError(
            f"{len(counts)} group(s) cannot make {n_folds} folds; give at most as many folds as groups"
        )
    shares = np.full(n_folds, 1 / n_folds)
    return deal_groups(counts, shares, numpy_generator(seed, "folds"))[groups]


def _in_time(blocks: Rows, n_folds: int) -> Rows:
    """The stretch of time of each row's block, from -1; later ones have one size, the first has the rest."""
    size = len(blocks) // (n_folds + 1)
    sizes = np.bincount(blocks)
    starts = np.cumsum(sizes) - sizes
    first = len(blocks) - n_folds * size
    folds = np.maximum((starts - first) // max(size, 1), -1)
    if size == 0 or len(np.unique(folds)) < n_folds + 1:
        what = "rows" if len(sizes) == len(blocks) else "groups, some of them large,"
        raise DataError(
            f"{len(sizes)} {what} cannot make {n_folds} folds in time and a stretch before them; give fewer "
            "folds"
        )
    return folds[blocks]

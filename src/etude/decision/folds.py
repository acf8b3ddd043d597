"""Folds of held-out rows that keep the labels' shares."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from etude.core.rng import numpy_generator


def stratified_folds(truth: NDArray[np.bool_], n_folds: int, seed: int) -> NDArray[np.int64]:
    """Return the fold (N,) of each row, from 0; folds differ by one row at most.

    A row counts for the rarest of its labels, rows without a label for themselves; the rows of each group
    are shuffled and dealt out. So each fold has a label that has as many rows as there are folds, and a label
    with fewer is missing in some.

    Args:
        truth: (N, C) the labels of the rows.
        n_folds: the number of folds; no more than rows are made.
        seed: of the shuffle.

    >>> truth = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], dtype=bool)
    >>> folds = stratified_folds(truth, 2, seed=0)
    >>> sorted(folds[:2].tolist()), sorted(folds[2:].tolist())
    ([0, 1], [0, 1])
    """
    n_rows, n_classes = truth.shape
    counts = truth.sum(axis=0).astype(np.float64)
    rarest = np.where(truth, counts, np.inf).argmin(axis=1)
    group = np.where(truth.any(axis=1), rarest, n_classes)
    shuffled = numpy_generator(seed, "decision", "folds").permutation(n_rows)
    order = shuffled[np.argsort(group[shuffled], kind="stable")]
    folds = np.empty(n_rows, dtype=np.int64)
    folds[order] = np.arange(n_rows) % max(min(n_folds, n_rows), 1)
    return folds

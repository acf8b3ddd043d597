"""Splits: a validation part that resembles the training part, and smaller training parts.

With one label for each row, every class gives its share of rows to the validation part (largest
remainders, so that the sizes are exact) and keeps at least one row for training. With several labels
for each row the split is iteratively stratified (Sechidis et al. 2011, "On the stratification of
multi-label data"), which keeps the frequency of each label. Draws are keyed by the seed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from etude.core.rng import key, numpy_generator
from etude.core.task import Task
from etude.errors import DataError

Rows = NDArray[np.int64]


def split(task: Task, targets: NDArray[np.float32], validation: float, seed: int) -> tuple[Rows, Rows]:
    """Split rows into a training and a validation part.

    Args:
        task: tells whether a row has one label or any number of them.
        targets: (N, C) from 0 to 1; soft ones count for the label that is likeliest.
        validation: a fraction below 1, or a count of rows as an ``int``.
        seed: keys the draws.

    Returns:
        The ids of the training rows and of the validation rows, each ascending, N in all.

    Raises:
        DataError: the validation part would be empty, or would leave too little to train on.

    >>> from etude.core.task import make_task
    >>> targets = np.eye(2, dtype=np.float32)[[0, 0, 0, 0, 1, 1]]
    >>> train, held_out = split(make_task("binary", ["no", "yes"]), targets, 3, seed=0)
    >>> targets[held_out].sum(axis=0)
    array([2., 1.], dtype=float32)
    """
    n_held_out = _count(validation, len(targets))
    if task.kind == "multilabel":
        held_out = _iterative(targets, n_held_out, seed)
    else:
        held_out = _stratified(targets.argmax(axis=1), n_held_out, validation, task, seed)
    mask = np.zeros(len(targets), dtype=np.bool_)
    mask[held_out] = True
    return np.flatnonzero(~mask), np.flatnonzero(mask)


def subsample(rows: Rows, limit: int | None, seed: int) -> Rows:
    """Return ``limit`` of the rows, chosen at random without replacement and ascending.

    >>> subsample(np.arange(100), 3, seed=0).shape
    (3,)
    """
    if limit is None or limit >= len(rows):
        return rows
    return np.sort(numpy_generator(seed, "subsample").choice(rows, size=limit, replace=False))


def _count(validation: float, n_rows: int) -> int:
    """The number of validation rows."""
    count = validation if isinstance(validation, int) else round(validation * n_rows)
    if count < 1:
        raise DataError(
            f"data.validation = {validation} of {n_rows} rows is no row at all; give a larger fraction, or "
            "false for no validation part"
        )
    if count >= n_rows:
        raise DataError(
            f"data.validation = {validation} leaves none of the {n_rows} rows to train on; give a smaller "
            "number"
        )
    return count


def _stratified(
    classes: Rows, n_held_out: int, validation: float, task: Task, seed: int
) -> NDArray[np.int64]:
    """Rows to hold out: each class's share, and never a class's last row."""
    counts = np.bincount(classes, minlength=task.n_classes)
    most = np.maximum(counts - 1, 0)
    if n_held_out > most.sum():
        raise DataError(
            f"data.validation = {validation} of {len(classes)} rows leaves no training row for some of the "
            f"{np.count_nonzero(counts)} classes; give at most {most.sum()} rows"
        )
    generator = numpy_generator(seed, "split")
    quota = counts * (n_held_out / len(classes))
    share = np.minimum(np.floor(quota).astype(np.int64), most)
    ties = generator.random(task.n_classes)
    while (missing := n_held_out - share.sum()) > 0:
        # Largest remainders first; a class that is at its most waits, so the loop may turn twice.
        remainder = np.where(share < most, quota - share, -np.inf)
        order = np.lexsort((ties, -remainder))
        order = order[np.isfinite(remainder[order])][:missing]
        share[order] += 1
    shuffled = generator.permutation(len(classes))
    by_class = shuffled[np.argsort(classes[shuffled], kind="stable")]
    starts = np.cumsum(counts) - counts
    rank = np.arange(len(classes)) - np.repeat(starts, counts)
    return by_class[rank < np.repeat(share, counts)]


def _iterative(targets: NDArray[np.float32], n_held_out: int, seed: int) -> NDArray[np.int64]:
    """Rows to hold out, iteratively stratified, and then exactly as many as asked for."""
    from iterstrat.ml_stratifiers import MultilabelStratifiedShuffleSplit

    labels = targets >= 0.5
    if labels.shape[1] == 1:  # the library wants two columns; the complement adds nothing new
        labels = np.hstack([labels, ~labels])
    splitter = MultilabelStratifiedShuffleSplit(
        n_splits=1, test_size=n_held_out, random_state=key(seed, "split") % 2**32
    )
    kept, held_out = next(splitter.split(labels, labels))
    # The library prefers balance to size and misses it by a few rows. We move those whose rarest
    # label is the most common: they disturb the frequencies least.
    frequency = np.where(labels, labels.sum(axis=0), len(labels)).min(axis=1)
    surplus = len(held_out) - n_held_out
    if surplus > 0:
        leaving = np.argsort(-frequency[held_out], kind="stable")[:surplus]
        return np.delete(held_out, leaving)
    joining = np.argsort(-frequency[kept], kind="stable")[:-surplus]
    return np.concatenate([held_out, kept[joining]])

"""Splits: a held-out part that resembles the training part, and smaller training parts.

With one label for each row, every class gives its share of rows to the held-out part (largest
remainders, so that the sizes are exact) and keeps at least one row for training. With several labels
for each row the split is iteratively stratified (Sechidis et al. 2011, "On the stratification of
multi-label data"), which keeps the frequency of each label; a label of one row stays in training. Groups
are dealt whole, so that sizes are only near to those asked for; in time the latest rows are held out,
whatever their labels. Draws are keyed by the seed and the part. Shapes: N rows, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from etude.core.rng import key, numpy_generator
from etude.core.task import Task
from etude.data.strata import (
    blocks_in_time,
    classes_of,
    count_strata,
    deal_groups,
    number_groups,
    strata_of,
)
from etude.errors import DataError

Rows = NDArray[np.int64]


def split(
    task: Task,
    targets: NDArray[np.float32],
    size: float,
    seed: int,
    *,
    part: str = "validation",
    n_whole: int | None = None,
    groups: Sequence[str] | Rows | None = None,
    times: NDArray[np.float64] | None = None,
) -> tuple[Rows, Rows]:
    """Split rows into a training and a held-out part.

    Args:
        task: tells whether a row has one label or any number of them.
        targets: (N, C) from 0 to 1; soft ones count for the label that is likeliest. Rows of zeros in a
            single-label task are out of scope, which is a class of its own that training may lose.
        size: a fraction below 1, or a count of rows as an ``int``.
        seed: keys the draws.
        part: the name of the held-out part.
        n_whole: the rows that a fraction is meant of, where some were taken out before; else N.
        groups: (N,) rows of one group stay together.
        times: (N,) the latest rows are held out; with groups, those groups whose last rows are the latest.

    Returns:
        The ids of the training rows and of the held-out rows, each ascending, N in all.

    Raises:
        DataError: the held-out part would be empty, or would leave too little to train on.

    >>> from etude.core.task import make_task
    >>> targets = np.eye(2, dtype=np.float32)[[0, 0, 0, 0, 1, 1]]
    >>> train, held_out = split(make_task("binary", ["no", "yes"]), targets, 3, seed=0)
    >>> targets[held_out].sum(axis=0)
    array([2., 1.], dtype=float32)
    """
    asked = f"data.{part} = {size}"
    n_held_out = _count(asked, size, n_whole or len(targets), len(targets))
    # The validation part's draws had no part in their key before there were others.
    names = ("split",) if part == "validation" else ("split", part)
    if times is not None:
        held_out = _latest(asked, blocks_in_time(times, groups), n_held_out)
    elif groups is not None:
        generator = numpy_generator(seed, *names)
        held_out = _by_group(asked, task, targets, number_groups(groups), n_held_out, generator)
    elif task.kind == "multilabel":
        held_out = _iterative(targets, n_held_out, key(seed, *names) % 2**32)
    else:
        held_out = _stratified(asked, classes_of(task, targets), n_held_out, task, seed, names)
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


def _count(asked: str, size: float, n_whole: int, n_rows: int) -> int:
    """The number of rows to hold out."""
    count = size if isinstance(size, int) else round(size * n_whole)
    if count < 1:
        raise DataError(
            f"{asked} of {n_whole} rows is no row at all; give a larger fraction, or leave the part out"
        )
    if count >= n_rows:
        taken = "" if n_rows == n_whole else f" that are left of {n_whole}"
        raise DataError(f"{asked} leaves none of the {n_rows} rows{taken} to train on; give a smaller number")
    return count


def _stratified(
    asked: str, classes: Rows, n_held_out: int, task: Task, seed: int, names: tuple[str, ...]
) -> Rows:
    """Rows to hold out: each class's share, and never the last row of a class that is learned."""
    n_classes = max(task.n_classes, int(classes.max()) + 1)
    counts = np.bincount(classes, minlength=n_classes)
    most = np.maximum(counts - (np.arange(n_classes) < task.n_classes), 0)
    if n_held_out > most.sum():
        raise DataError(
            f"{asked} of {len(classes)} rows leaves no training row for some of the "
            f"{np.count_nonzero(counts[: task.n_classes])} classes; give at most {most.sum()} rows"
        )
    generator = numpy_generator(seed, *names)
    quota = counts * (n_held_out / len(classes))
    share = np.minimum(np.floor(quota).astype(np.int64), most)
    ties = generator.random(n_classes)
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


def _iterative(targets: NDArray[np.float32], n_held_out: int, random_state: int) -> Rows:
    """Rows to hold out, iteratively stratified, and then exactly as many as asked for."""
    from iterstrat.ml_stratifiers import MultilabelStratifiedShuffleSplit

    labels = two_columns(targets >= 0.5)
    splitter = MultilabelStratifiedShuffleSplit(n_splits=1, test_size=n_held_out, random_state=random_state)
    kept, held_out = next(splitter.split(labels, labels))
    # The library prefers balance to size and misses it by a few rows. We move those whose rarest
    # label is the most common: they disturb the frequencies least.
    frequency = np.where(labels, labels.sum(axis=0), len(labels)).min(axis=1)
    surplus = len(held_out) - n_held_out
    if surplus > 0:
        leaving = np.argsort(-frequency[held_out], kind="stable")[:surplus]
        return _keep_labels(labels, np.delete(held_out, leaving))
    joining = np.argsort(-frequency[kept], kind="stable")[:-surplus]
    return _keep_labels(labels, np.concatenate([held_out, kept[joining]]))


def two_columns(labels: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Labels (N, C) as the library wants them, two columns at least; a complement adds nothing new."""
    return np.hstack([labels, ~labels]) if labels.shape[1] == 1 else labels


def _keep_labels(labels: NDArray[np.bool_], held_out: Rows) -> Rows:
    """Exchange rows so that each label that occurs has a row outside of those held out.

    In exchange goes a row all of whose labels stay in training without it, the commonest first. Where there
    is none the label stays away, as in a part that holds out nearly all rows.
    """
    out = np.zeros(len(labels), dtype=np.bool_)
    out[held_out] = True
    total = labels.sum(axis=0)
    for label in np.flatnonzero((total > 0) & (labels[~out].sum(axis=0) == 0)):
        kept = labels[~out].sum(axis=0)
        if kept[label]:  # a row that came back for another label brought this one along
            continue
        back = np.flatnonzero(out & labels[:, label])[0]
        spare = ~out & ~(labels & (kept < 2)).any(axis=1)
        if spare.any():
            rarest = np.where(labels, total, len(labels)).min(axis=1)
            out[np.where(spare, rarest, -1).argmax()] = True
            out[back] = False
    return np.flatnonzero(out)


def _by_group(
    asked: str,
    task: Task,
    targets: NDArray[np.float32],
    groups: Rows,
    n_held_out: int,
    generator: np.random.Generator,
) -> Rows:
    """The rows of whole groups, stratified as well as groups allow, near to the number asked for."""
    counts = count_strata(groups, strata_of(task, targets))
    if len(counts) < 2:
        raise DataError(
            f"{asked} cannot be split by data.group: all {len(groups)} rows are in one group; choose another "
            "column, or leave data.group out"
        )
    share = n_held_out / len(groups)
    held_out = deal_groups(counts, np.array([1 - share, share]), generator) == 1
    _keep_strata(counts[:, : task.n_classes], counts[:, -1], held_out)
    if not held_out.any():
        raise DataError(
            f"{asked} cannot be split by data.group: each of the {len(counts)} groups holds all rows of some "
            "label, and training needs them; choose another column, or leave data.group out"
        )
    return np.flatnonzero(held_out[groups])


def _keep_strata(
    counts: NDArray[np.float64], sizes: NDArray[np.float64], held_out: NDArray[np.bool_]
) -> None:
    """Take back the smallest held-out group of each label that training would lose, in place."""
    for label in range(counts.shape[1]):
        holders = counts[:, label] > 0
        if holders.any() and held_out[holders].all():
            held_out[np.where(holders, sizes, np.inf).argmin()] = False


def _latest(asked: str, blocks: Rows, n_held_out: int) -> Rows:
    """The rows of the last blocks in time: so many blocks that their rows come nearest to the number."""
    sizes = np.bincount(blocks)
    if len(sizes) < 2:
        raise DataError(
            f"{asked} cannot be split by data.time: all {len(blocks)} rows are in one group; choose another "
            "column for data.group, or leave it out"
        )
    from_end = np.cumsum(sizes[::-1])[:-1]
    n_blocks = 1 + np.abs(from_end - n_held_out).argmin()
    return np.flatnonzero(blocks >= len(sizes) - n_blocks)

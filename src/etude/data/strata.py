"""Strata: what a split keeps in proportion, also where whole groups or stretches of time must stay together.

Shapes: N rows, C classes, S strata, G groups, K parts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from etude.core.task import Task

Ids = NDArray[np.int64]

_SWEEPS = 3
"""How often each group looks for a better part: the first sweep fills the parts, the others mend."""


def classes_of(task: Task, targets: NDArray[np.float32]) -> Ids:
    """Return the class (N,) of each row of a single-label task; rows out of scope are class C.

    >>> from etude.core.task import Binary
    >>> targets = np.array([[0.3, 0.7], [1, 0], [0, 0]], dtype=np.float32)
    >>> classes_of(Binary(["no", "yes"]), targets).tolist()
    [1, 0, 2]
    """
    return np.where(targets.any(axis=1), targets.argmax(axis=1), task.n_classes)


def strata_of(task: Task, targets: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which strata (N, S) each row belongs to: its labels, or its class with "out of scope" last."""
    if task.kind == "multilabel":
        return targets >= 0.5
    return np.eye(task.n_classes + 1, dtype=np.bool_)[classes_of(task, targets)]


def number_groups(groups: Sequence[str] | Ids) -> Ids:
    """Return the number (N,) of each row's group, from 0 to G - 1."""
    return np.unique(np.asarray(groups), return_inverse=True)[1].astype(np.int64)


def count_strata(groups: Ids, strata: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the rows of each stratum, and in the last column all rows, of each group: (G, S + 1)."""
    columns = [np.bincount(groups, weights=column) for column in strata.T]
    return np.stack([*columns, np.bincount(groups)], axis=1)


def deal_groups(
    counts: NDArray[np.float64], shares: NDArray[np.float64], generator: np.random.Generator
) -> Ids:
    """Deal whole groups to parts so that every stratum comes near to its share in each.

    Large groups are dealt first, each to the part where it lessens the squared distance from the wanted
    rows the most; distances count in relation to a stratum's rows and to a part's share. Then each group
    may change its part. That is the idea of scikit-learn's ``StratifiedGroupKFold``, for parts of any
    shares and rows of any number of labels.

    Args:
        counts: (G, S) rows of each stratum in each group.
        shares: (K,) how large the parts are to be; they sum to 1.
        generator: breaks ties between groups of one size.

    Returns:
        (G,) the part of each group; each part has one at least where there are as many.
    """
    sizes = counts[:, -1]
    shuffled = generator.permutation(len(counts))
    order = shuffled[np.argsort(-sizes[shuffled], kind="stable")]
    total = counts.sum(axis=0)
    scale = 1.0 / (np.maximum(total, 1.0) * shares[:, None])
    missing = shares[:, None] * total  # (K, S)
    part = np.full(len(counts), -1, dtype=np.int64)
    for _ in range(_SWEEPS):
        for group in order:
            if part[group] >= 0:
                missing[part[group]] += counts[group]
            change = ((counts[group] - 2.0 * missing) * counts[group] * scale).sum(axis=1)
            part[group] = change.argmin()
            missing[part[group]] -= counts[group]
    _fill_empty_parts(part, sizes, shares)
    return part


def _fill_empty_parts(part: Ids, sizes: NDArray[np.float64], shares: NDArray[np.float64]) -> None:
    """Give each part without a group the one whose size is nearest to the wanted, in place."""
    for k in range(len(shares)):
        groups = np.bincount(part, minlength=len(shares))
        free = np.flatnonzero(groups[part] > 1)
        if groups[k] == 0 and len(free):
            wanted = shares[k] * sizes.sum()
            part[free[np.abs(sizes[free] - wanted).argmin()]] = k


def blocks_in_time(times: NDArray[np.float64], groups: Sequence[str] | Ids | None = None) -> Ids:
    """Return the number (N,) of each row's block, which ascends in time.

    A block is a row, or a group, whose time is that of its latest row: what comes before a block holds
    nothing later than the block's end. Equal times keep the order of the file.

    >>> blocks_in_time(np.array([3.0, 1.0, 2.0, 0.0])).tolist()
    [3, 1, 2, 0]
    >>> blocks_in_time(np.array([3.0, 1.0, 2.0, 0.0]), ["a", "b", "b", "a"]).tolist()
    [1, 0, 0, 1]
    """
    numbers = np.arange(len(times)) if groups is None else number_groups(groups)
    latest = np.full(int(numbers.max(initial=-1)) + 1, -np.inf)
    np.maximum.at(latest, numbers, times)
    first = np.full(len(latest), len(times))
    np.minimum.at(first, numbers, np.arange(len(times)))
    rank = np.empty(len(latest), dtype=np.int64)
    rank[np.lexsort((first, latest))] = np.arange(len(latest))
    return rank[numbers]

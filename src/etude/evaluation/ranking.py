"""Metrics of the order of scores: ROC AUC, average precision, and the calibration error's bins.

Equal scores are never put into an order: a threshold has all of them on one side, and a bin holds all or
none. Shapes: N rows, C labels, R weights (resamples).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import embedding_bag

from etude.core.task import Task
from etude.evaluation.reliability import N_BINS
from etude.evaluation.scored import true_labels
from etude.evaluation.store import ScoreStore

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_PIECE = 64
_EDGE_SAMPLE = 2**22
"""From more scores than this, the edges of bins are found on an even sample."""


def by_label(
    task: Task, probabilities: NDArray[Any], targets: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Scores (n, K) and targets (n, K) of the yes-or-no questions whose ranking counts.

    They are those of every label, or of a binary task's positive one alone. Of single-label tasks they are
    of the rows in scope, and the likeliest target is the truth.
    """
    if task.kind == "multilabel":
        return probabilities, targets
    true = true_labels(task, targets)
    inside = true.any(axis=1)
    columns = slice(1, 2) if task.kind == "binary" else slice(None)
    return probabilities[inside][:, columns], true[inside][:, columns]


def label_ranks(scores: NDArray[Any], targets: NDArray[Any]) -> tuple[float, float]:
    """Return the ROC AUC and the average precision of one label's scores (N,) and targets (N,).

    A row has the label where its target is one half or more.

    The ROC AUC is NaN where all rows or none have the label. The average precision is 0 where none has
    it, and NaN where there are no rows.

    >>> label_ranks(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]))
    (0.75, 0.8333333333333333)
    """
    truth = targets >= 0.5
    positive, negative = np.sort(scores[truth]), np.sort(scores[~truth])
    p, n = len(positive), len(negative)
    if p == 0:
        return float("nan"), 0.0 if n else float("nan")
    below = np.searchsorted(negative, positive, side="left")
    auc = float("nan")
    if n:
        up_to = np.searchsorted(negative, positive, side="right")
        auc = (int(below.sum()) + int(up_to.sum())) / (2 * p * n)
    starts = np.flatnonzero(np.diff(positive, prepend=-np.inf) > 0)  # of each distinct score
    hits = p - starts
    precision = hits / (hits + n - below[starts])
    return auc, float(np.diff(starts, append=p) @ precision / p)


def over_labels(task: Task, auc: Floats, precision: Floats, true: Floats) -> dict[str, Floats]:
    """The means over K labels of the ROC AUC (..., K) and the average precision (..., K).

    Labels without a value are left out, and so are classes of a multiclass task that are true of no row,
    ``true`` (..., C) being how many rows each is true of. Where nothing remains, the mean is NaN.
    """
    occurs = true > 0 if task.kind == "multiclass" else np.ones_like(precision, dtype=np.bool_)
    return {
        "roc_auc": _mean(auc, ~np.isnan(auc)),
        "average_precision": _mean(precision, occurs & ~np.isnan(precision)),
    }


def _mean(values: Floats, kept: Bools) -> Floats:
    n = kept.sum(axis=-1)
    total = np.where(kept, values, 0.0).sum(axis=-1)
    return np.divide(total, n, out=np.full(np.shape(n), np.nan), where=n > 0)


class RankedLabel:
    """The rows of one label, sorted once, to be scored under many weights.

    Args:
        scores: (M,).
        targets: (M,); a row has the label where its target is one half or more.
        rows: (M,), the row of the weights that each belongs to.
    """

    def __init__(self, scores: NDArray[Any], targets: NDArray[Any], rows: NDArray[np.int32]) -> None:
        order = np.argsort(-scores, kind="stable")
        starts, ends = groups_of_equals(scores[order])
        positives = np.flatnonzero(targets[order] >= 0.5)
        # Only groups of equal scores that hold a positive row matter to either metric; what lies between
        # two of them is summed in one piece.
        groups = np.searchsorted(starts, positives, side="right") - 1
        groups, first = np.unique(groups, return_index=True)
        bounds = np.unique(np.concatenate([[0], starts[groups], ends[groups]]))
        self._starts = torch.from_numpy(np.searchsorted(bounds, starts[groups]))
        self._ends = torch.from_numpy(np.searchsorted(bounds, ends[groups]))
        self._rows = torch.from_numpy(rows[order])
        self._pieces = torch.from_numpy(bounds[bounds < len(order)].astype(np.int32))
        self._positives = torch.from_numpy(rows[order[positives]])
        self._first = torch.from_numpy(first.astype(np.int32))

    def scores(self, weights: Tensor) -> tuple[Floats, Floats]:
        """ROC AUC (R,) and average precision (R,) under whole-number weights (N, R).

        They are what :func:`label_ranks` gives of rows repeated so often.
        """
        pieces = _sums(weights, self._rows, self._pieces)
        so_far = torch.cat([pieces.new_zeros(1, pieces.shape[1]), pieces.cumsum(0)])
        total = so_far[-1]
        none = torch.full_like(total, torch.nan)
        without = torch.where(total > 0, 0.0, none)
        if len(self._first) == 0:
            return none.numpy(), without.numpy()
        hits = _sums(weights, self._positives, self._first)
        hits_so_far = hits.cumsum(0)
        p = hits_so_far[-1]
        n = total - p
        found = so_far[self._ends]
        equal = found - so_far[self._starts] - hits  # rows without the label that score the same
        below = n - (found - hits_so_far)
        auc = (hits * (below + equal / 2)).sum(0) / (p * n)  # 0 of 0 is NaN, which is meant
        average = (hits * hits_so_far / found.clamp(min=1)).sum(0) / p
        return auc.numpy(), torch.where(p > 0, average, without).numpy()


def _sums(weights: Tensor, rows: Tensor, starts: Tensor) -> Tensor:
    """Sums (S, R) of the weights (N, R) of S runs of rows, of which each starts where the last one ends.

    ``embedding_bag`` gathers and sums in one pass, which is fifty times as fast as gathering the weights of
    each label in its order and accumulating them.
    """
    return embedding_bag(rows, weights, starts, mode="sum").double()


def groups_of_equals(ordered: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Where each run of equal values starts, and where it ends (exclusively).

    >>> groups_of_equals(np.array([3, 3, 1]))
    (array([0, 2]), array([2, 3]))
    """
    changes = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    return np.append(0, changes), np.append(changes, len(ordered))


class RankedConfidence:
    """Confidences and whether they were right, sorted once, for the calibration error under many weights.

    Args:
        confidence: (M,), in [0, 1].
        right: (M,), from 0 to 1.
        rows: (M,), the row of the weights that each belongs to.
    """

    def __init__(self, confidence: NDArray[Any], right: NDArray[Any], rows: NDArray[np.int32]) -> None:
        order = np.argsort(confidence, kind="stable")
        ordered = confidence[order].astype(np.float64)
        starts, ends = groups_of_equals(ordered)
        self._group_start = np.append(np.repeat(starts, ends - starts), len(ordered)).astype(np.int32)
        self._gap = right[order] - ordered
        # Where a share of the mass is reached is looked for among pieces, and then inside one of them.
        self._rows = rows[order]
        self._weights = np.zeros((-(-len(ordered) // _PIECE), _PIECE))

    def ece(self, weights: NDArray[Any]) -> Floats:
        """The calibration error (R,) under whole-number weights (R, N); NaN where all are 0.

        It is :func:`~etude.evaluation.reliability.expected_calibration_error` of rows repeated so often.
        """
        return np.array([self._ece(of_row) for of_row in weights])

    def _ece(self, of_row: NDArray[Any]) -> float:
        weights = self._weights.reshape(-1)[: len(self._rows)]
        weights[:] = of_row[self._rows]
        pieces = self._weights.sum(axis=1)
        so_far = np.cumsum(pieces)
        total = int(so_far[-1]) if len(so_far) else 0
        if total == 0:
            return float("nan")
        # Bin k starts with the row at k/15 of the mass, and with all that equal it.
        mass = np.arange(N_BINS) * total // N_BINS
        at = np.searchsorted(so_far, mass, side="right")
        inside = np.cumsum(self._weights[at], axis=1) + (so_far[at] - pieces[at])[:, None]
        places = at * _PIECE + (inside <= mass[:, None]).sum(axis=1)
        starts = np.unique(self._group_start[places])
        return float(np.abs(np.add.reduceat(weights * self._gap, starts)).sum() / total)


def streamed_ece(store: ScoreStore) -> float:
    """The calibration error of all scores of a store, which need not fit into memory.

    It is :func:`~etude.evaluation.reliability.expected_calibration_error`; of more than four million scores
    the bins' edges are those of an even sample, and their masses equal but for a thousandth.
    """
    total = store.rows * store.n_labels
    if total == 0:
        return float("nan")
    step = -(-total // _EDGE_SAMPLE)
    sample = np.sort(np.concatenate([scores[::step] for scores, _ in store.labels()]))
    edges = sample[np.arange(1, N_BINS) * len(sample) // N_BINS]
    gaps = np.zeros(N_BINS)
    for scores, right in store.labels():
        bins = np.searchsorted(edges, scores, side="right")
        gaps += np.bincount(bins, weights=right - scores.astype(np.float64), minlength=N_BINS)
    return float(np.abs(gaps).sum() / total)

"""Thresholds where exactly one label holds: each class gets an offset, and the highest sum wins.

A row (N rows, C classes) gets the class argmax_c (log p_c + b_c), which is the likeliest class after its
probability was multiplied by exp(b_c); offsets of zero are the plain argmax. The offsets that maximise the
mean of the classes' metrics, such as macro F1, are found by coordinate ascent: with all other offsets fixed,
each row turns to class c at one value of b_c, so that every distinct outcome can be tried exactly. An offset
moves only where the metric rises.

Idea: the decision rule that is optimal for such metrics has this form (Narasimhan et al. 2015).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from etude.decision.counts import CountMetric
from etude.decision.sweep import nearest_best

_RISE = 1e-9
"""A smaller rise of the metric is rounding."""


def log_probabilities(probabilities: NDArray[Any]) -> NDArray[np.float64]:
    """Return the logarithms (N, C), finite also where a probability is 0."""
    p = np.asarray(probabilities, dtype=np.float64)
    return np.log(np.maximum(p, np.finfo(np.float32).tiny))


def fit_offsets(
    probabilities: NDArray[Any], truth: NDArray[np.bool_], metric: CountMetric, passes: int = 10
) -> NDArray[np.float64]:
    """Return the offsets (C,) with the highest mean of the classes' metrics.

    Args:
        probabilities: (N, C).
        truth: (N, C), one class for each row.
        metric: of the counts of one class against the rest.
        passes: rounds over all classes at most; usually two or three are enough.

    >>> from etude.decision.counts import balanced_accuracy
    >>> p = np.array([[0.6, 0.4], [0.7, 0.3], [0.9, 0.1], [0.55, 0.45]])
    >>> truth = np.array([[0, 1], [1, 0], [1, 0], [0, 1]], dtype=bool)
    >>> offsets = fit_offsets(p, truth, balanced_accuracy)
    >>> (log_probabilities(p) + offsets).argmax(axis=1).tolist()
    [1, 0, 0, 1]
    """
    logs, classes = log_probabilities(probabilities), truth.argmax(axis=1)
    offsets = np.zeros(logs.shape[1])
    present = np.flatnonzero(truth.any(axis=0))
    reached = _plain_sum(logs.argmax(axis=1), truth, metric)
    for _ in range(passes):
        before = reached
        for c in present:
            offset, value = _best_offset(logs, offsets, classes, int(c), metric)
            if value > reached + _RISE:
                offsets[c], reached = offset, value
        if reached <= before + _RISE:
            break
    return offsets


def _plain_sum(given: NDArray[np.intp], truth: NDArray[np.bool_], metric: CountMetric) -> float:
    """The metric summed over the classes that have rows, where each row gets the likeliest class."""
    n, n_classes = truth.shape
    true, predicted = truth.sum(axis=0), np.bincount(given, minlength=n_classes)
    hits = np.bincount(given[truth[np.arange(n), given]], minlength=n_classes)
    values = metric(hits, predicted - hits, true - hits, n - predicted - true + hits)
    return float(values[true > 0].sum())


def _best_offset(
    logs: NDArray[np.float64],
    offsets: NDArray[np.float64],
    classes: NDArray[np.intp],
    c: int,
    metric: CountMetric,
) -> tuple[float, float]:
    """The best offset of class c beside the others', of equals the nearest to its own, and its sum."""
    rivals = logs + offsets
    rivals[:, c] = -np.inf
    rival = rivals.argmax(axis=1)
    needed = rivals[np.arange(len(logs)), rival] - logs[:, c]
    order = np.argsort(needed, kind="stable")
    needed, rival, truth = needed[order], rival[order], classes[order]
    sums = _sums(rival, truth, c, logs.shape[1], metric)
    inner = np.flatnonzero(needed[1:] > needed[:-1]) + 1
    cuts = np.concatenate([[0], inner, [len(needed)]])
    edges = np.concatenate([[needed[0] - 2.0], needed, [needed[-1] + 2.0]])
    places = (edges[cuts] + edges[cuts + 1]) / 2.0
    return nearest_best(places, sums[cuts], float(offsets[c]))


def _sums(
    rival: NDArray[np.intp], truth: NDArray[np.intp], c: int, n_classes: int, metric: CountMetric
) -> NDArray[np.float64]:
    """The metric summed over the classes (N + 1,) where the first k rows are given to class c."""
    n = len(truth)
    true = np.bincount(truth, minlength=n_classes)
    moved = np.arange(n + 1)
    hits = np.concatenate([[0], np.cumsum(truth == c)])
    own = metric(hits, moved - hits, true[c] - hits, n - moved - true[c] + hits)

    # Rows sorted by the class they leave: each class loses its rows one after the other.
    grouped = np.argsort(rival, kind="stable")
    left = rival[grouped]
    given = np.bincount(rival, minlength=n_classes)
    starts = np.concatenate([[0], np.cumsum(given)[:-1]])
    right = (truth == rival)[grouped].astype(np.int64)
    running = np.concatenate([[0], np.cumsum(right)])
    right_given = running[starts + given] - running[starts]

    def of_rivals(kept: NDArray[Any], right_kept: NDArray[Any], which: NDArray[Any]) -> NDArray[np.float64]:
        values = metric(
            right_kept, kept - right_kept, true[which] - right_kept, n - kept - true[which] + right_kept
        )
        return np.where(true[which] > 0, values, 0.0)

    everyone = np.arange(n_classes)
    start = of_rivals(given, right_given, everyone)
    start[c] = 0.0
    place = np.arange(n) - starts[left]
    gone = running[:-1] - running[starts[left]]
    kept, right_kept = given[left] - place, right_given[left] - gone
    change = np.empty(n)
    change[grouped] = of_rivals(kept - 1, right_kept - right, left) - of_rivals(kept, right_kept, left)
    return own + start.sum() + np.concatenate([[0.0], np.cumsum(change)])

"""The exact search of a threshold: every cut between two different scores is tried, not a grid.

The scores are sorted once; the counts of every cut are cumulative sums. A row is positive where its score
is at least the threshold, so that equal scores are always on one side. The threshold of a cut lies in the
middle between the two scores that it separates. The cut under all scores lies in the middle between 0 and
the lowest of them; the one over all scores in the middle between the highest and 1, or just over 1 where the
highest is 1. Among cuts that are equally good the one nearest to a preferred threshold is taken, and of two
that are equally near the lower.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etude.decision.counts import CountMetric

_EQUAL = 1e-12
"""Values that differ by less are equal: the same fraction reached by two ways of rounding."""


def threshold_curve(
    scores: NDArray[Any], truth: NDArray[np.bool_], metric: CountMetric
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return every distinct cut, ascending: its threshold (K,) and the metric (K,) there.

    Args:
        scores: (N,) from 0 to 1.
        truth: (N,) whether the label holds.
        metric: of the four counts.

    >>> from etude.decision.counts import f_beta
    >>> cuts, values = threshold_curve(np.array([0.2, 0.4, 0.8]), np.array([False, True, True]), f_beta)
    >>> cuts.round(2).tolist(), values.round(3).tolist()
    ([0.1, 0.3, 0.6, 0.9], [0.8, 1.0, 0.667, 0.0])
    """
    order, ordered = _sorted(scores)
    cuts = _cuts(ordered)
    return _between(ordered, cuts), _values(truth[order], metric)[cuts]


def best_threshold(
    scores: NDArray[Any], truth: NDArray[np.bool_], metric: CountMetric, prefer: float = 0.5
) -> tuple[float, float]:
    """Return the threshold with the highest metric, and that metric.

    Args:
        scores: (N,) from 0 to 1, at least one.
        truth: (N,) whether the label holds.
        metric: of the four counts.
        prefer: of equally good thresholds the one nearest to this is taken.

    >>> from etude.decision.counts import f_beta
    >>> best_threshold(np.array([0.2, 0.4, 0.8]), np.array([False, True, True]), f_beta)[1]
    1.0
    """
    order, ordered = _sorted(scores)
    return _best(ordered, _values(truth[order], metric), prefer)


def best_common_threshold(
    scores: NDArray[Any], truth: NDArray[np.bool_], metric: CountMetric, prefer: float = 0.5
) -> tuple[float, float]:
    """Return the one threshold for all labels with the highest mean of the labels' metrics, and that mean.

    Going up through all scores of all labels, each step takes one row out of one label, and changes the mean
    by what that label's own metric changes.

    Args:
        scores: (N, C) from 0 to 1.
        truth: (N, C).
        metric: of one label's four counts.
        prefer: as in :func:`best_threshold`.
    """
    start, steps = 0.0, np.empty(scores.T.shape)
    for column, held, out in zip(scores.T, truth.T, steps, strict=True):
        order, _ = _sorted(column)
        values = _values(held[order], metric)
        start += float(values[0])
        out[order] = np.diff(values)
    order, ordered = _sorted(scores.T.ravel())
    sums = np.concatenate([[start], start + np.cumsum(steps.ravel()[order])])
    return _best(ordered, sums / scores.shape[1], prefer)


def nearest_best(
    places: NDArray[np.float64], values: NDArray[np.float64], prefer: float
) -> tuple[float, float]:
    """Return the place (of K) with the highest value, and among equals the one nearest to ``prefer``."""
    highest = float(values.max())
    equal = places[_as_good(values, highest)]
    return float(equal[np.abs(equal - prefer).argmin()]), highest


def _best(ordered: NDArray[np.float64], values: NDArray[np.float64], prefer: float) -> tuple[float, float]:
    """The best threshold and its value; of the values (N + 1,) those between equal scores are no cuts."""
    cuts = _cuts(ordered)
    values = values[cuts]
    best = _as_good(values, float(values.max()))
    return nearest_best(_between(ordered, cuts[best]), values[best], prefer)


def _as_good(values: NDArray[np.float64], highest: float) -> NDArray[np.bool_]:
    return values >= highest - _EQUAL * max(1.0, abs(highest))


def _sorted(scores: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """The order (N,) of scores from 0 to 1, and the ordered scores (N,)."""
    if scores.dtype != np.float32 or len(scores) >= 2**32:
        order = np.argsort(scores, kind="stable")
        return order, np.asarray(scores, dtype=np.float64)[order]
    # Numbers from 0 on are ordered as their bits are. With the row behind them one plain sort of integers
    # does, which is three times as fast as sorting rows by their scores.
    keys = (scores + np.float32(0.0)).view(np.uint32).astype(np.uint64) << np.uint64(32)
    keys |= np.arange(len(scores), dtype=np.uint64)
    keys.sort()
    ordered = (keys >> np.uint64(32)).astype(np.uint32).view(np.float32).astype(np.float64)
    return (keys & np.uint64(2**32 - 1)).astype(np.intp), ordered


def _values(truth: NDArray[np.bool_], metric: CountMetric) -> NDArray[np.float64]:
    """The metric (N + 1,) where the k lowest of N sorted rows are negative."""
    n = len(truth)
    below = np.arange(n + 1, dtype=np.float64)
    fn = np.zeros(n + 1)
    np.cumsum(truth, out=fn[1:])
    tp = fn[-1] - fn
    return metric(tp, n - below - tp, fn, below - fn)


def _cuts(ordered: NDArray[np.float64]) -> NDArray[np.intp]:
    """How many rows are under each distinct cut: none, all, and wherever neighbours differ."""
    inner = np.flatnonzero(ordered[1:] > ordered[:-1]) + 1
    return np.concatenate([[0], inner, [len(ordered)]])


def _between(ordered: NDArray[np.float64], cuts: NDArray[np.intp]) -> NDArray[np.float64]:
    """The thresholds of the cuts."""
    low = np.where(cuts > 0, ordered[cuts - 1], 0.0)
    high = np.where(cuts < len(ordered), ordered[np.minimum(cuts, len(ordered) - 1)], 1.0)
    middle = low + (high - low) / 2.0
    # Between two neighbouring numbers there is none: the upper one, which counts as positive, is the cut.
    middle = np.where(middle > low, middle, high)
    over_one = (cuts == len(ordered)) & (ordered[-1] >= 1.0)
    return np.where(over_one, math.nextafter(ordered[-1], math.inf), middle)

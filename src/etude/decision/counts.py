"""Metrics of one label that are functions of four counts, which is what makes an exact sweep possible.

Every function takes arrays of true positives, false positives, false negatives and true negatives, and gives
an array of the same shape that is to be maximised. A ratio without a denominator is 0, as with scikit-learn's
``zero_division=0``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etude.config.decision import split_metric

Counts = NDArray[Any]
CountMetric = Callable[[Counts, Counts, Counts, Counts], NDArray[np.float64]]
"""(tp, fp, fn, tn) -> value, larger being better."""

_TINY = float(np.finfo(np.float64).tiny)


def count_metric(name: str, costs: Sequence[Sequence[float]] | None = None) -> CountMetric:
    """Return the metric of a name, without regard to how it is averaged over labels.

    Args:
        name: such as ``"f1"``, ``"f0.5_micro"`` or ``"mcc"``.
        costs: [[TN, FP], [FN, TP]], for ``"cost"``.

    Raises:
        ValueError: no metric of counts has this name.

    >>> float(count_metric("f2")(np.array(8), np.array(8), np.array(2), np.array(82)).round(4))
    0.7143
    """
    base, _ = split_metric(name)
    if base == "cost":
        return partial(_negative_cost, costs=np.asarray(costs, dtype=np.float64))
    return _METRICS[base] if base in _METRICS else partial(f_beta, beta=float(base[1:]))


def f_beta(tp: Counts, fp: Counts, fn: Counts, _tn: Counts, beta: float = 1.0) -> NDArray[np.float64]:
    """Return (1 + β²) TP / ((1 + β²) TP + β² FN + FP)."""
    hits = (1.0 + beta**2) * tp
    return _ratio(hits, hits + beta**2 * fn + fp)


def mcc(tp: Counts, fp: Counts, fn: Counts, tn: Counts) -> NDArray[np.float64]:
    """Return Matthews' correlation coefficient."""
    tp, fp, fn, tn = (np.asarray(count, dtype=np.float64) for count in (tp, fp, fn, tn))
    spread = np.sqrt((tp + fp) * (tp + fn)) * np.sqrt((tn + fp) * (tn + fn))
    return _ratio(tp * tn - fp * fn, spread)


def balanced_accuracy(tp: Counts, fp: Counts, fn: Counts, tn: Counts) -> NDArray[np.float64]:
    """Return the mean of recall and specificity, or the one of them that the rows define."""
    sides = (tp + fn > 0).astype(np.float64) + (tn + fp > 0)
    return _ratio(_ratio(tp, tp + fn) + _ratio(tn, tn + fp), sides)


def _ratio(numerator: Counts, denominator: Counts) -> NDArray[np.float64]:
    # Where a denominator is 0 so is its numerator. A masked division would take three times as long.
    result: NDArray[np.float64] = numerator / np.maximum(denominator, _TINY)
    return result


def _precision(tp: Counts, fp: Counts, _fn: Counts, _tn: Counts) -> NDArray[np.float64]:
    return _ratio(tp, tp + fp)


def _recall(tp: Counts, _fp: Counts, fn: Counts, _tn: Counts) -> NDArray[np.float64]:
    return _ratio(tp, tp + fn)


def _specificity(_tp: Counts, fp: Counts, _fn: Counts, tn: Counts) -> NDArray[np.float64]:
    return _ratio(tn, tn + fp)


def _accuracy(tp: Counts, fp: Counts, fn: Counts, tn: Counts) -> NDArray[np.float64]:
    return _ratio(tp + tn, tp + fp + fn + tn)


def _jaccard(tp: Counts, fp: Counts, fn: Counts, _tn: Counts) -> NDArray[np.float64]:
    return _ratio(tp, tp + fp + fn)


def _negative_cost(
    tp: Counts, fp: Counts, fn: Counts, tn: Counts, costs: NDArray[np.float64]
) -> NDArray[np.float64]:
    total = tn * costs[0, 0] + fp * costs[0, 1] + fn * costs[1, 0] + tp * costs[1, 1]
    return -_ratio(total, tp + fp + fn + tn)


_METRICS: dict[str, CountMetric] = {
    "f1": f_beta,
    "precision": _precision,
    "recall": _recall,
    "specificity": _specificity,
    "accuracy": _accuracy,
    "balanced_accuracy": balanced_accuracy,
    "jaccard": _jaccard,
    "mcc": mcc,
}

"""From probabilities to labels: thresholds for each label, one for all, or from what errors cost.

Definitions, with probabilities p (N, C) and truth (N, C):

* *global*: the one threshold t with the highest mean of the labels' metrics (``average = "macro"``), or with
  the highest metric of the counts of all labels together (``"micro"``, Lipton et al. 2014, 1402.1892).
* *per label*: the threshold t_c with the highest metric of label c alone (Fan & Lin 2007; Pillai et al.
  2013), drawn towards the global one where the label is rare: the logit of the result is
  w logit(t_c) + (1 - w) logit(t), with w = n_c / (n_c + shrinkage) and n_c the rows of the label's rarer
  side.
* *cost*: a label holds where that is expected to cost no more (Elkan 2001, equation 2).

A label without positives, or without negatives, says nothing about its threshold and takes the global one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etude.config.decision import Average
from etude.decision.counts import CountMetric
from etude.decision.sweep import best_common_threshold, best_threshold
from etude.errors import ConfigError

_NEAR = 1e-6
"""Thresholds are mixed on the logit scale, where 0 and 1 are infinitely far; no closer to them than this."""


def tunable(truth: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which labels (C,) have both positive and negative rows (N, C)."""
    positives = truth.sum(axis=0)
    return (positives > 0) & (positives < len(truth))


def global_threshold(
    probabilities: NDArray[Any], truth: NDArray[np.bool_], metric: CountMetric, average: Average = "macro"
) -> float | None:
    """Return the best threshold for all labels together; None where no label has both sides.

    Args:
        probabilities: (N, C).
        truth: (N, C).
        metric: of one label's counts, or of all labels' together.
        average: ``"macro"`` or ``"micro"``.

    >>> from etude.decision.counts import f_beta
    >>> p = np.array([[0.1, 0.2], [0.4, 0.3], [0.9, 0.6]])
    >>> global_threshold(p, p > 0.25, f_beta)
    0.25
    """
    useful = tunable(truth)
    if not useful.any():
        return None
    p, held = probabilities[:, useful], truth[:, useful]
    if average == "micro" or p.shape[1] == 1:
        return best_threshold(p.ravel(), held.ravel(), metric)[0]
    return best_common_threshold(p, held, metric)[0]


def label_thresholds(
    probabilities: NDArray[Any], truth: NDArray[np.bool_], metric: CountMetric, common: float
) -> NDArray[np.float64]:
    """Return each label's own best threshold (C,), and the common one where a label has only one side.

    Of equally good thresholds a label takes the one nearest to the common threshold.

    Args:
        probabilities: (N, C).
        truth: (N, C).
        metric: of one label's counts.
        common: the threshold of all labels.
    """
    found = np.full(truth.shape[1], common)
    for c in np.flatnonzero(tunable(truth)):
        found[c], _ = best_threshold(probabilities[:, c], truth[:, c], metric, prefer=common)
    return found


def shrink(
    thresholds: NDArray[np.float64], common: float, truth: NDArray[np.bool_], shrinkage: float
) -> NDArray[np.float64]:
    """Draw the thresholds (C,) of rare labels towards the common one.

    Args:
        thresholds: (C,) of each label alone.
        common: of all labels together.
        truth: (N, C), to count each label's rarer side.
        shrinkage: how many such rows weigh as much as the common threshold; 0 changes nothing.

    >>> truth = np.array([[True], [False]]) # one positive row
    >>> shrink(np.array([0.8]), 0.2, truth, shrinkage=1.0).round(6).tolist()
    [0.5]
    """
    if shrinkage == 0.0:
        return thresholds
    positives = truth.sum(axis=0)
    rows = np.minimum(positives, len(truth) - positives)
    weight = rows / (rows + shrinkage)
    mixed = weight * _logit(thresholds) + (1.0 - weight) * _logit(np.asarray(common))
    return _sigmoid(mixed)


def average_thresholds(thresholds: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the mean of several folds' thresholds (C,), leaving out folds where a label's is NaN.

    >>> average_thresholds([np.array([0.2, np.nan]), np.array([0.4, 0.3])]).round(6).tolist()
    [0.3, 0.3]
    """
    stacked = np.stack(thresholds)
    known = ~np.isnan(stacked)
    return np.where(known, stacked, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)


def cost_threshold(costs: Sequence[Sequence[float]]) -> float:
    """Return the probability from which saying yes is expected to cost no more than saying no.

    Args:
        costs: [[TN, FP], [FN, TP]].

    Raises:
        ConfigError: an error would cost less than the right answer.

    >>> cost_threshold([[0, 1], [4, 0]])
    0.2
    """
    (tn, fp), (fn, tp) = costs
    if fp < tn or fn < tp or fp - tn + fn - tp <= 0:
        raise ConfigError(
            f"decision.costs is {[list(row) for row in costs]}, where a wrong yes costs {fp - tn:g} and a "
            f"wrong no {fn - tp:g} more than the right answer; neither may be negative and one must be over 0"
        )
    return (fp - tn) / (fp - tn + fn - tp)


def _logit(p: NDArray[np.float64]) -> NDArray[np.float64]:
    p = np.clip(p, _NEAR, 1.0 - _NEAR)
    return np.log(p) - np.log1p(-p)


def _sigmoid(z: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1.0 / (1.0 + np.exp(-z))

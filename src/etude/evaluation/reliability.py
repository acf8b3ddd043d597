"""How far probabilities can be believed: calibration error, Brier score, log loss, reliability curve.

What is compared with what depends on the task. Of a multiclass task the probability of the likeliest label
is compared with how often it is right (Guo et al. 2017, 1706.04599); of a binary task the probability of the
positive label with how often it holds; of a multilabel task every label's probability of every row, pooled.
Rows that belong to no class of a single-label task have no right answer and are left out. Of soft targets
the share of a label counts as how often it holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etude.core.task import Task

N_BINS = 15
"""Bins of the calibration error, as in Guo et al. 2017."""

_EPS = float(np.finfo(np.float64).eps)
"""No probability counts as less in a log loss, as in scikit-learn's."""


@dataclass(frozen=True, slots=True)
class Bin:
    """Neighbouring probabilities of a reliability curve.

    Attributes:
        low: the lowest probability in it.
        high: the highest.
        confidence: their mean.
        accuracy: how often what they speak of is true.
        rows: how many there are.
    """

    low: float
    high: float
    confidence: float
    accuracy: float
    rows: int


def confidences(
    task: Task, probabilities: NDArray[Any], targets: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the probabilities (M,) that a task is judged by, and what they speak of (M,), from 0 to 1.

    Args:
        task: the task.
        probabilities: (N, C).
        targets: (N, C).
    """
    p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    if task.kind == "multilabel":
        return p.ravel(), y.ravel()
    p, y = _in_scope(p, y)
    if task.kind == "binary":
        return p[:, 1], y[:, 1]
    rows, top = np.arange(len(p)), p.argmax(axis=1)
    return p[rows, top], y[rows, top]


def reliability_bins(confidence: NDArray[Any], correct: NDArray[Any], n_bins: int = N_BINS) -> list[Bin]:
    """Return the reliability curve over bins that hold equally many probabilities each.

    Equal probabilities are in one bin, so that the order of the rows cannot matter; there are fewer bins
    where that leaves some empty.

    Args:
        confidence: (M,) probabilities.
        correct: (M,) what they speak of, 0 or 1.
        n_bins: the number of bins.

    >>> [b.rows for b in reliability_bins(np.array([0.1, 0.2, 0.2, 0.9]), np.array([0, 0, 1, 1]), 2)]
    [1, 3]
    """
    order = np.argsort(confidence, kind="stable")
    p = np.asarray(confidence, dtype=np.float64)[order]
    y = np.asarray(correct, dtype=np.float64)[order]
    if len(p) == 0:
        return []
    even = (np.arange(1, n_bins) * len(p)) // n_bins
    starts = np.unique(np.concatenate([[0], np.searchsorted(p, p[even], side="left")]))
    rows = np.diff(np.append(starts, len(p)))
    confidence_sums, correct_sums = np.add.reduceat(p, starts), np.add.reduceat(y, starts)
    return [
        Bin(float(p[start]), float(p[start + n - 1]), float(c / n), float(t / n), int(n))
        for start, n, c, t in zip(starts, rows, confidence_sums, correct_sums, strict=True)
    ]


def expected_calibration_error(
    confidence: NDArray[Any], correct: NDArray[Any], n_bins: int = N_BINS
) -> float:
    """Return the mean distance between probability and frequency over bins of equal mass.

    Paper: Naeini et al. 2015 with bins of equal width; of equal mass in Nguyen & O'Connor 2015 (1508.05154),
    which Nixon et al. 2019 (1904.01685) found the less biased.

    Args:
        confidence: (M,) probabilities.
        correct: (M,) what they speak of, 0 or 1.
        n_bins: the number of bins.

    >>> round(expected_calibration_error(np.array([0.8, 0.8, 0.8, 0.8]), np.array([1, 1, 0, 0])), 3)
    0.3
    """
    bins = reliability_bins(confidence, correct, n_bins)
    total = sum(b.rows for b in bins)
    return sum(b.rows * abs(b.confidence - b.accuracy) for b in bins) / total if total else 0.0


def log_losses(task: Task, probabilities: NDArray[Any], targets: NDArray[Any]) -> NDArray[np.float64]:
    """Return the negative log-likelihood (N,) of each row, of a multilabel task the mean over its labels.

    Args:
        task: the task.
        probabilities: (N, C); one of exactly 0 counts as the smallest number that is still told from it.
        targets: (N, C).
    """
    p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    held = np.log(np.clip(p, _EPS, 1.0))
    if task.kind != "multilabel":
        return -(y * held).sum(axis=1)
    return -(y * held + (1.0 - y) * np.log(np.clip(1.0 - p, _EPS, 1.0))).mean(axis=1)


def brier_score(task: Task, probabilities: NDArray[Any], targets: NDArray[Any]) -> float:
    """Return the mean squared distance between probabilities and targets (Brier 1950).

    It is summed over the classes of a multiclass task, of the positive label of a binary one, and the mean
    over the labels of a multilabel one; scikit-learn's ``brier_score_loss`` does the same.

    Args:
        task: the task.
        probabilities: (N, C).
        targets: (N, C).
    """
    p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    if task.kind != "multilabel":
        p, y = _in_scope(p, y)
    if p.size == 0:
        return 0.0
    squares = (p - y) ** 2
    if task.kind == "binary":
        return float(squares[:, 1].mean())
    return float(squares.sum(axis=1).mean() if task.kind == "multiclass" else squares.mean())


def calibration_scores(task: Task, probabilities: NDArray[Any], targets: NDArray[Any]) -> dict[str, float]:
    """Return ``ece``, ``brier`` and ``nll`` of one part; an empty part gives an empty mapping.

    Args:
        task: the task.
        probabilities: (N, C).
        targets: (N, C).

    >>> from etude.core.task import Binary
    >>> p = np.array([[0.9, 0.1], [0.2, 0.8]])
    >>> {k: round(v, 3) for k, v in calibration_scores(Binary(["no", "yes"]), p, np.eye(2)).items()}
    {'ece': 0.15, 'brier': 0.025, 'nll': 0.164}
    """
    if task.kind != "multilabel":
        probabilities, targets = _in_scope(probabilities, targets)
    if len(targets) == 0:
        return {}
    return {
        "ece": expected_calibration_error(*confidences(task, probabilities, targets)),
        "brier": brier_score(task, probabilities, targets),
        "nll": float(log_losses(task, probabilities, targets).mean()),
    }


def calibration_error_per_label(probabilities: NDArray[Any], targets: NDArray[Any]) -> list[float]:
    """Return the calibration error of each label's own probability, in the order of the columns.

    Args:
        probabilities: (N, C).
        targets: (N, C).
    """
    return [expected_calibration_error(p, y) for p, y in zip(probabilities.T, targets.T, strict=True)]


def _in_scope(probabilities: NDArray[Any], targets: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The rows that belong to a class."""
    known = (targets > 0).any(axis=1)
    return probabilities[known], targets[known]

"""How far a score can be trusted: intervals of an AUC, the spread over runs, two parts that agree.

Three questions are put to a validation part before it is relied on. How much does a score change
where nothing but chance does (the standard error over repeated runs, std / sqrt(n))? Would another
part of the same size give another score? And do models that are better on it turn out better on a
test part as well? Shapes: N rows, M models.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

_Z = 1.959963984540054
"""The 97.5th percentile of the normal distribution: what an interval of 95 % reaches to either side."""


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval of 95 %."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        """The figure as plain data."""
        return {"value": self.value, "low": self.low, "high": self.high}


def ranks(values: ArrayLike) -> NDArray[np.float64]:
    """Return the ranks of values from 1; equal ones share the mean of theirs.

    >>> ranks([10, 30, 20, 30])
    array([1. , 3.5, 2. , 3.5])
    """
    _, inverse, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    shared: NDArray[np.float64] = (last - (counts - 1) / 2)[inverse]
    return shared


def auc(scores: NDArray[np.floating], positive: NDArray[np.bool_]) -> Estimate:
    """Return the area under the ROC curve with DeLong's interval.

    The area is the probability that a positive row scores above a negative one, ties counting half. Its
    variance follows from how often each single row wins (DeLong, DeLong and Clarke-Pearson 1988, by ranks
    as Sun and Xu 2014 write it).

    Args:
        scores: (N,) any numbers.
        positive: (N,) the rows that should score high.

    Raises:
        ValueError: fewer than two rows on either side, which leaves no variance.

    >>> found = auc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]))
    >>> found.value
    0.75
    """
    above, below = scores[positive], scores[~positive]
    m, n = len(above), len(below)
    if min(m, n) < 2:
        raise ValueError(f"an interval of an AUC needs two rows on both sides, and there are {m} and {n}")
    together = ranks(np.concatenate([above, below]))
    wins = (together[:m] - ranks(above)) / n
    losses = 1.0 - (together[m:] - ranks(below)) / m
    value = float(wins.mean())
    error = math.sqrt(float(wins.var(ddof=1)) / m + float(losses.var(ddof=1)) / n)
    return Estimate(value, max(0.0, value - _Z * error), min(1.0, value + _Z * error))


@dataclass(frozen=True)
class Spread:
    """Scores of runs that differ in nothing but chance.

    Attributes:
        mean: of the scores.
        std: their standard deviation, with n - 1 in the denominator.
        standard_error: of the mean, std / sqrt(n).
        runs: n.
    """

    mean: float
    std: float
    standard_error: float
    runs: int


def spread(scores: Sequence[float]) -> Spread:
    """Return the spread of two scores or more.

    >>> spread([0.80, 0.82, 0.84, 0.82, 0.82]).standard_error.__round__(4)
    0.0063

    Raises:
        ValueError: there is one score or none, which has no spread.
    """
    if len(scores) < 2:
        raise ValueError(f"a spread needs two scores or more, and there are {len(scores)}")
    std = float(np.std(scores, ddof=1))
    return Spread(float(np.mean(scores)), std, std / math.sqrt(len(scores)), len(scores))


def share_error(share: float, n_rows: int) -> float:
    """Return the standard error of a share that was counted on ``n_rows`` rows, sqrt(p (1 - p) / N).

    >>> share_error(0.8, 400)
    0.02
    """
    return round(math.sqrt(share * (1.0 - share) / n_rows), 12)


@dataclass(frozen=True)
class Agreement:
    """How well the scores of M models on two parts agree, by value and by rank."""

    pearson: Estimate
    spearman: Estimate
    models: int


def agreement(first: Sequence[float], second: Sequence[float]) -> Agreement:
    """Correlate the scores of the same M models on two parts.

    Intervals are Fisher's, z = artanh r, with the standard error 1 / sqrt(M - 3), and for ranks
    sqrt((1 + r^2 / 2) / (M - 3)) (Bonett and Wright 2000).

    Raises:
        ValueError: fewer than five models, or models that all score the same.

    >>> found = agreement([0.5, 0.6, 0.7, 0.8, 0.9], [0.45, 0.5, 0.72, 0.7, 0.88])
    >>> round(found.pearson.value, 3), round(found.spearman.value, 3)
    (0.957, 0.9)
    """
    if len(first) < 5:
        raise ValueError(f"a correlation needs five models or more, and there are {len(first)}")
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        raise ValueError("all models score the same on one of the parts, so that nothing can be correlated")
    pearson, spearman = _correlation(first, second), _correlation(ranks(first), ranks(second))
    free = len(first) - 3
    return Agreement(
        _fisher(pearson, 1 / math.sqrt(free)),
        _fisher(spearman, math.sqrt((1 + spearman**2 / 2) / free)),
        len(first),
    )


def _correlation(first: ArrayLike, second: ArrayLike) -> float:
    x, y = (np.asarray(values, dtype=np.float64) for values in (first, second))
    x, y = x - x.mean(), y - y.mean()
    return float(np.clip(x @ y / math.sqrt(float(x @ x) * float(y @ y)), -1.0, 1.0))


def _fisher(value: float, error: float) -> Estimate:
    if abs(value) > 1 - 1e-12:  # a perfect correlation has no end of its z
        return Estimate(value, value, value)
    z = math.atanh(value)
    return Estimate(value, math.tanh(z - _Z * error), math.tanh(z + _Z * error))

"""Two ways of training on the same seeds: is one better, or had it the luck of its seeds?

Where seed k gives both the same split, order of rows and first head, the differences of the pairs vary far
less than the scores do. K seeds give K differences, and Student's t says what their mean is worth. Where many
variants are compared with one base, some differ by chance, and Holm's procedure keeps the probability of
even one false finding at its level.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats  # type: ignore[import-untyped]

LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Mean:
    """The mean of K values.

    Attributes:
        mean: their mean; nan where there are none.
        se: its standard error, of which a single value has none.
        n: K.
    """

    mean: float
    se: float | None
    n: int


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """The mean of K paired differences.

    Attributes:
        mean: of the differences, second minus first.
        se: its standard error; None of a single pair.
        low, high: the 95 % interval of Student's t with K - 1 degrees of freedom; None of a single pair.
        p: two-sided, of "there is no difference"; None of a single pair.
        wins, losses: pairs in which the second has more, and less.
        n: K.
    """

    mean: float
    se: float | None
    low: float | None
    high: float | None
    p: float | None
    wins: int
    losses: int
    n: int

    @property
    def win_rate(self) -> float:
        """The share of pairs in which the second has more; equal ones count half."""
        return (self.wins + (self.n - self.wins - self.losses) / 2) / self.n


def mean_of(values: Sequence[float]) -> Mean:
    """Return the mean of some values with its standard error s / sqrt(K).

    >>> mean_of([1.0, 2.0, 3.0])
    Mean(mean=2.0, se=0.5773502691896258, n=3)
    """
    n = len(values)
    if n == 0:
        return Mean(math.nan, None, 0)
    se = float(np.std(values, ddof=1)) / math.sqrt(n) if n > 1 else None
    return Mean(float(np.mean(values)), se, n)


def paired_difference(first: Sequence[float], second: Sequence[float]) -> PairedDifference:
    """Return the mean of *second minus first*, with its t-interval.

    Scores of a small part take few values, so that all differences may be equal without being certain. Where
    they are, and are not zero, Student's t has no scale to measure with, and p is that of the sign test,
    2 / 2^K.

    Raises:
        ValueError: there are no pairs, or not equally many of both.

    >>> found = paired_difference([0.80, 0.82, 0.81], [0.83, 0.84, 0.85])
    >>> round(found.mean, 4), round(found.low, 4), round(found.high, 4), round(found.p, 4), found.wins
    (0.03, 0.0052, 0.0548, 0.0351, 3)
    """
    if len(first) != len(second) or not len(first):
        raise ValueError(f"{len(first)} and {len(second)} scores are no pairs")
    differences = np.asarray(second, dtype=np.float64) - np.asarray(first, dtype=np.float64)
    n, mean = len(differences), float(differences.mean())
    wins, losses = int((differences > 0).sum()), int((differences < 0).sum())
    if n == 1:
        return PairedDifference(mean, None, None, None, None, wins, losses, n)
    se = float(differences.std(ddof=1)) / math.sqrt(n)
    if se <= 1e-12 * max(1.0, abs(mean)):
        p = 1.0 if mean == 0 else min(1.0, 2.0 / 2**n)
        return PairedDifference(mean, 0.0, mean, mean, p, wins, losses, n)
    reach = float(stats.t.ppf((1 + LEVEL) / 2, n - 1)) * se
    p = 2 * float(stats.t.sf(abs(mean) / se, n - 1))
    return PairedDifference(mean, se, mean - reach, mean + reach, p, wins, losses, n)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number (Holm 1979), in the order given.

    The smallest of m is multiplied by m, the next by m - 1, and so on; none becomes smaller than one before
    it, nor larger than 1.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    m = len(p_values)
    corrected = [0.0] * m
    largest = 0.0
    for rank, place in enumerate(sorted(range(m), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (m - rank) * p_values[place]))
        corrected[place] = largest
    return corrected


def visible_difference(se: float, n: int) -> float:
    """The smallest mean difference that K pairs of this spread show at the 5 % level, without correction.

    >>> round(visible_difference(0.01, 5), 4)
    0.0278
    """
    return float(stats.t.ppf((1 + LEVEL) / 2, n - 1)) * se

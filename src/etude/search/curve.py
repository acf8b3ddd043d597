"""What a sweep of learning rates says: its smoothed loss, and the rates that people read off it.

N is the number of steps. The rates rise by equal ratios, and a loss belongs to each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FEWEST = 8
"""Steps of a sweep below which its curve says nothing."""
HEAD, TAIL = 10, 5
"""Not read: a tenth of the steps, in which the mean has no memory yet, and the last ones, which explode."""

Numbers = NDArray[np.float64]


def sweep_rates(low: float, high: float, n: int) -> Numbers:
    """Return n rates from ``low`` to ``high`` by equal ratios (Smith 2017, 1506.01186, on a log scale).

    Raises:
        ValueError: the bounds are not positive and rising, or n is below 2.

    >>> sweep_rates(1e-4, 1.0, 5).tolist()
    [0.0001, 0.001, 0.01, 0.1, 1.0]
    """
    if not 0 < low < high or n < 2:
        raise ValueError(f"{n} rates from {low} to {high} are no sweep; give 2 or more, rising from above 0")
    rates: Numbers = np.geomspace(low, high, n)
    return rates


def smoothed(losses: Sequence[float], beta: float) -> Numbers:
    """Return the exponential mean of losses (N,), corrected for its start from zero.

    Raises:
        ValueError: ``beta`` is out of [0, 1).

    >>> smoothed([2.0, 4.0, 4.0], 0.5).round(3).tolist()
    [2.0, 3.333, 3.714]
    """
    if not 0.0 <= beta < 1.0:
        raise ValueError(f"beta is {beta} and must lie in [0, 1)")
    found, mean = [], 0.0
    for i, loss in enumerate(losses):
        mean = beta * mean + (1 - beta) * loss
        found.append(mean / (1 - beta ** (i + 1)))
    return np.array(found)


def readable(rates: Numbers, losses: Numbers, planned: int) -> tuple[Numbers, Numbers]:
    """Cut off what is not read: a tenth of the planned steps at the start, and the last five.

    As fastai's ``lr_find``; a sweep that diverged early keeps at least half of its steps.

    >>> rates, losses = readable(np.arange(1.0, 31.0), np.ones(30), 100)
    >>> float(rates[0]), float(rates[-1])
    (8.0, 25.0)
    """
    n = len(rates)
    head, tail = min(planned // HEAD, n // 4), min(TAIL, n // 4)
    return rates[head : n - tail], losses[head : n - tail]


def steepest(rates: Numbers, losses: Numbers) -> float:
    """Return the rate at which the loss falls fastest by the rate's logarithm, on its way to the minimum.

    NOTE[DIFF]: fastai looks at the whole curve, in which a fall after an explosion may be the steepest.

    >>> steepest(sweep_rates(1e-4, 1.0, 5), np.array([2.0, 1.9, 1.0, 0.9, 3.0]))
    0.001
    """
    least = max(int(losses.argmin()), 1)
    slopes = np.diff(losses[: least + 1]) / np.diff(np.log(rates[: least + 1]))
    return float(rates[int(slopes.argmin())])


def tenth_of_minimum(rates: Numbers, losses: Numbers) -> float:
    """Return a tenth of the rate with the lowest loss.

    >>> round(tenth_of_minimum(sweep_rates(1e-4, 1.0, 5), np.array([2.0, 1.9, 1.0, 0.9, 3.0])), 6)
    0.01
    """
    return float(rates[int(losses.argmin())]) / 10


def valley(rates: Numbers, losses: Numbers) -> float:
    """Return the rate in the middle of the longest valley, the longest falling subsequence of the losses.

    As fastai's ``valley``: of all falling subsequences (not of neighbours alone) the longest is taken, by
    dynamic programming in O(N²).

    >>> float(f"{valley(np.arange(1.0, 10.0), np.array([9, 8, 7, 6, 5, 4, 3, 9, 9.0])):.3g}")
    3.0
    """
    n = len(losses)
    length = np.ones(n, dtype=np.int64)
    end = 0
    for i in range(1, n):
        higher = losses[:i] > losses[i]
        if higher.any():
            length[i] = length[:i][higher].max() + 1
        if length[i] > length[end]:
            end = i
    start = end - int(length[end])
    third = (end - start) / 3
    return float(rates[max(start + int(third) + int(third / 2), 0)])


def between(rates: Numbers, losses: Numbers) -> float:
    """Return the geometric mean of the steepest point and of a tenth of the minimum.

    Practitioners choose somewhere between the two; on a logarithmic axis this is the middle.

    >>> float(f"{between(sweep_rates(1e-4, 1.0, 5), np.array([2.0, 1.9, 1.0, 0.9, 3.0])):.3g}")
    0.00316
    """
    return math.sqrt(steepest(rates, losses) * tenth_of_minimum(rates, losses))


SUGGESTIONS = {
    "between": between,
    "steepest": steepest,
    "minimum/10": tenth_of_minimum,
    "valley": valley,
}
"""The ways to read a curve, by the name that a user chooses them by."""

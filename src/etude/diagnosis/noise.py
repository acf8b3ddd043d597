"""How far a score may be off by chance: bootstrap intervals of the main metric, and of differences.

Intervals of the report come from the run's summary. These serve where it has none: for a run that was
killed, and for the training sample. Shapes: N rows, C labels, R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from etude.core.rng import numpy_generator
from etude.evaluation.scored import Scored

RESAMPLES = 200
MANY_ROWS = 20_000
"""Of more rows an interval is narrow, and the usual formula serves."""
Z = 1.959963984540054


class Measured(NamedTuple):
    """A score with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half of the interval's width."""
        return (self.high - self.low) / 2

    def __str__(self) -> str:
        return f"{self.value:.4f} ({self.low:.4f} to {self.high:.4f})"


def rough(value: float, n_rows: int) -> Measured:
    """Return a share of rows with its interval by Wilson's formula, which also serves few rows.

    >>> print(rough(1.0, 3))
    1.0000 (0.4385 to 1.0000)
    """
    share = min(max(value, 0.0), 1.0)
    centre = (share + Z**2 / (2 * n_rows)) / (1 + Z**2 / n_rows)
    spread = Z * math.sqrt(share * (1 - share) / n_rows + Z**2 / (4 * n_rows**2)) / (1 + Z**2 / n_rows)
    return Measured(value, max(min(centre - spread, value), 0.0), min(max(centre + spread, value), 1.0))


def main_score(scored: Scored) -> float:
    """The task's main metric of the decisions: macro F1 of any subset of labels, else accuracy."""
    return _counted(scored)(np.ones(len(scored), dtype=np.float32))


def measure(scored: Scored) -> Measured:
    """Return the main metric with its interval."""
    value = main_score(scored)
    if scored.task.kind != "multilabel" or len(scored) > MANY_ROWS:
        return rough(value, len(scored))
    count = _counted(scored)
    return _within(value, [count(weights) for weights in _resamples(len(scored))])


def difference(one: Scored, other: Scored) -> Measured:
    """Return the main metric of ``one`` minus that of ``other`` with its interval, by paired resamples.

    Both hold the same rows in the same order.
    """
    first, second = _counted(one), _counted(other)
    drawn = [first(weights) - second(weights) for weights in _resamples(len(one))]
    return _within(main_score(one) - main_score(other), drawn)


def apart(one: Measured, other: Measured) -> Measured:
    """Return the difference of two scores of different rows, as their intervals add up.

    >>> print(apart(Measured(0.9, 0.87, 0.93), Measured(0.8, 0.76, 0.84)))
    0.1000 (0.0500 to 0.1500)
    """
    value = one.value - other.value
    low = math.hypot(one.value - one.low, other.high - other.value)
    high = math.hypot(one.high - one.value, other.value - other.low)
    return Measured(value, value - low, value + high)


def _within(value: float, drawn: list[float]) -> Measured:
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Measured(value, min(float(low), value), max(float(high), value))


def _resamples(n_rows: int) -> Iterator[NDArray[np.float32]]:
    """Yield (N,) how often each row is in a resample; the same resamples for all parts of that many rows."""
    rng = numpy_generator(0, "diagnosis", n_rows)
    for _ in range(RESAMPLES):
        drawn = rng.integers(n_rows, size=n_rows)
        yield np.bincount(drawn, minlength=n_rows).astype(np.float32)


def _counted(scored: Scored) -> Callable[[NDArray[np.float32]], float]:
    """Return the main metric as a function of how often each row counts (N,)."""
    decisions, truth = scored.decisions, scored.truth
    if scored.task.kind != "multilabel":
        right = (decisions == truth).all(axis=1).astype(np.float64)
        return lambda weights: float(weights @ right / weights.sum())
    hits = (decisions & truth).astype(np.float64)
    both = decisions.astype(np.float64) + truth.astype(np.float64)

    def macro_f1(weights: NDArray[np.float32]) -> float:
        hit, counted = weights @ hits, weights @ both
        return float(np.divide(2 * hit, counted, out=np.zeros_like(hit), where=counted > 0).mean())

    return macro_f1

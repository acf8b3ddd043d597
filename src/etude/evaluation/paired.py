"""Two models on the same rows: is one better, or did it have the luck of these rows?

McNemar's test looks at the rows that only one of them has right. The paired bootstrap draws the same rows
for both and looks at the difference of any metric. Differences are always *b minus a*. Shapes: N rows, C
classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etude.core.task import Task
from etude.errors import DataError
from etude.evaluation.bootstrap import Samples, interval
from etude.evaluation.metrics import score

EXACT_BELOW = 25
"""Fewer rows on which the models differ than this are judged by the exact binomial test."""

Answers = tuple[NDArray[Any], NDArray[np.bool_]]
"""Probabilities (N, C) and decisions (N, C) of one model."""


@dataclass(frozen=True, slots=True)
class McNemar:
    """Rows that one model alone has right.

    Attributes:
        only_a: how many the first has right and the second wrong.
        only_b: how many the second has right and the first wrong.
        p: how likely so uneven a split is (or a more uneven one) where both are equally good.
    """

    only_a: int
    only_b: int
    p: float


@dataclass(frozen=True, slots=True)
class Difference:
    """How much more of a metric b has than a.

    Attributes:
        difference: b minus a.
        low, high: the middle 95 % of the resampled differences.
        p: twice the share of resampled differences on the lesser side of zero, at most 1.
    """

    difference: float
    low: float
    high: float
    p: float

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of zero."""
        return self.low > 0 or self.high < 0


def mcnemar(correct_a: NDArray[np.bool_], correct_b: NDArray[np.bool_]) -> McNemar:
    """Test whether two models are right equally often on the same N rows (McNemar 1947).

    The exact binomial test where they differ on fewer than 25 rows, else chi-square with one degree of
    freedom and the continuity correction of Edwards (1948).

    Raises:
        DataError: the models were not scored on equally many rows.

    >>> mcnemar(np.array([True, True, True, False]), np.array([True, False, False, False]))
    McNemar(only_a=2, only_b=0, p=0.5)
    """
    if correct_a.shape != correct_b.shape:
        raise DataError(
            f"the models were scored on {len(correct_a)} and {len(correct_b)} rows; a paired test needs the "
            "same rows of both"
        )
    only_a, only_b = int((correct_a & ~correct_b).sum()), int((correct_b & ~correct_a).sum())
    n, fewer = only_a + only_b, min(only_a, only_b)
    if n < EXACT_BELOW:
        tail = sum(math.comb(n, k) for k in range(fewer + 1)) / 2**n
        return McNemar(only_a, only_b, min(1.0, 2 * tail))
    chi_square = max(abs(only_a - only_b) - 1, 0) ** 2 / n
    return McNemar(only_a, only_b, math.erfc(math.sqrt(chi_square / 2)))


def paired_bootstrap(
    task: Task,
    targets: NDArray[Any],
    a: Answers,
    b: Answers,
    *,
    names: Sequence[str] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Difference]:
    """Return how much more of each metric the second model has, *b minus a*, on the same rows.

    Args:
        task: the task.
        targets: (N, C).
        a: probabilities (N, C) and decisions (N, C) of the first model.
        b: those of the second.
        names: which metrics; the default ones of the task where None. A metric that either model has no
            value of is left out.
        resamples: how many times the rows are drawn; fewer where there are very many rows.
        seed: the seed of the draws.

    Raises:
        DataError: a probability is not finite, or the shapes do not fit.
        ConfigError: a name is unknown, or is no metric of such a task.
    """
    first, second = (score(task, p, targets, decisions, names) for p, decisions in (a, b))
    shared = [name for name in first if name in second]
    if not shared:
        return {}
    drawn_a, drawn_b = (Samples(task, p, targets, d, names=shared).draw(resamples, seed) for p, d in (a, b))
    found = {}
    for name in shared:
        differences = drawn_b[name] - drawn_a[name]
        if not np.isnan(differences).all():
            limits = interval(differences)
            p = two_sided(differences[~np.isnan(differences)])
            found[name] = Difference(second[name] - first[name], limits.low, limits.high, p)
    return found


def two_sided(differences: NDArray[np.float64]) -> float:
    """The bootstrap's p of "there is no difference", which counts the observed sample as one more draw.

    >>> two_sided(np.array([0.1, 0.2, 0.3]))
    0.5
    """
    fewer = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    return min(1.0, 2 * (fewer + 1) / (len(differences) + 1))

"""Constant schedule: the learning rate stays where it is.

Idea: no decay at all, so that training can be stopped or continued at any point.

Formula, with progress p in [0, 1]: factor(p) = 1.

Paper: none; Goodfellow et al. 2016, Deep Learning, section 8.3.1, says why a decay is usually needed.

When it helps: with weight averaging, which does the work of a decay; for comparisons of techniques.
When not: where the last weights are the ones to keep, since they rattle around a minimum as long as
the steps stay large.

Suggested values: none.

Cost: 1 pass; no memory.

Clashes: another schedule.
"""

from __future__ import annotations

from typing import Literal

from etude.core.phases import SCHEDULE
from etude.core.plan import Plan
from etude.core.technique import Facts, Technique, TechniqueConfig


class ConstantConfig(TechniqueConfig):
    """Settings of the constant schedule: there are none."""

    name: Literal["constant"] = "constant"


def constant(progress: float) -> float:
    """Return 1, the factor of the learning rate at any point of training.

    Args:
        progress: share of the schedule that is done, in [0, 1]; it is checked, as in every schedule.

    Raises:
        ValueError: ``progress`` is out of [0, 1].

    >>> [constant(p) for p in (0.0, 0.5, 1.0)]
    [1.0, 1.0, 1.0]
    """
    if not 0.0 <= progress <= 1.0:
        raise ValueError(f"progress is {progress} and must lie in [0, 1]")
    return 1.0


class Constant(Technique[ConstantConfig]):
    """Keeps the learning rate."""

    Config = ConstantConfig
    facts = Facts(
        family="schedules",
        phase=SCHEDULE,
        paper="Goodfellow et al. 2016, Deep Learning, 8.3.1",
        neutral={},
    )

    def attach(self, plan: Plan) -> None:
        plan.add(SCHEDULE, constant)

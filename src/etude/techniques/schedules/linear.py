"""Linear schedule: the learning rate falls in a straight line to zero.

Idea: large steps while there is far to go, ever smaller ones towards the end.

Formula, with progress p in [0, 1]: factor(p) = 1 - p.

Paper: Devlin et al. 2019 (1810.04805), appendix A.2; Bergsma et al. 2025 (2502.15938) compare it with
other decays.

When it helps: fine-tuning transformers; it is what Hugging Face's Trainer does by default.
When not: where training shall go on after its planned end, since the rate is then zero; with a weight
average, which prefers a higher rate.

Suggested values: none; put a warm-up of 5 to 10 % of the steps in front.

Cost: 1 pass; no memory.

Clashes: another schedule.
"""

from __future__ import annotations

from typing import Literal

from etude.core.phases import SCHEDULE
from etude.core.plan import Plan
from etude.core.technique import Facts, Technique, TechniqueConfig


class LinearConfig(TechniqueConfig):
    """Settings of the linear schedule: there are none."""

    name: Literal["linear"] = "linear"


def linear_decay(progress: float) -> float:
    """Return ``1 - progress``, the factor of the learning rate.

    Args:
        progress: share of the schedule that is done, in [0, 1].

    Raises:
        ValueError: ``progress`` is out of [0, 1].

    >>> [linear_decay(p) for p in (0.0, 0.25, 1.0)]
    [1.0, 0.75, 0.0]
    """
    if not 0.0 <= progress <= 1.0:
        raise ValueError(f"progress is {progress} and must lie in [0, 1]")
    return 1.0 - progress


class Linear(Technique[LinearConfig]):
    """Lowers the learning rate linearly to zero."""

    Config = LinearConfig
    facts = Facts(family="schedules", phase=SCHEDULE, paper="Devlin et al. 2019, arXiv 1810.04805")

    def attach(self, plan: Plan) -> None:
        plan.add(SCHEDULE, linear_decay)

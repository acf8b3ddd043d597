"""Cosine schedule: the learning rate falls along half a cosine.

Idea: stay near the peak for a while, fall fastest in the middle, and land softly.

Formula, with progress p in [0, 1] and the last factor f:
factor(p) = f + (1 - f) (1 + cos(π p)) / 2.

Paper: Loshchilov and Hutter 2017 (1608.03983), equation 5, without restarts.

When it helps: fine-tuning and training from scratch alike; little to tune.
When not: where training shall be stopped early or continued: half way down the rate is still half the
peak, and the scores there say little about the end.

Suggested values: final 0, up to 0.1; put a warm-up of 5 to 10 % of the steps in front.

Cost: 1 pass; no memory.

Clashes: another schedule.
"""

from __future__ import annotations

import math
from typing import Literal

from etude.config.fields import SearchRange, setting
from etude.core.phases import SCHEDULE
from etude.core.plan import Plan
from etude.core.technique import Facts, Technique, TechniqueConfig


class CosineConfig(TechniqueConfig):
    """Settings of the cosine schedule."""

    name: Literal["cosine"] = "cosine"
    final: float = setting(
        0.0, help="factor of the learning rate at the end", ge=0.0, le=1.0, search=SearchRange(0.0, 0.1)
    )


def half_cosine(progress: float, final: float = 0.0) -> float:
    """Return ``final + (1 - final) * (1 + cos(pi * progress)) / 2``, the factor of the learning rate.

    Args:
        progress: share of the schedule that is done, in [0, 1].
        final: factor at the end, in [0, 1].

    Raises:
        ValueError: ``progress`` or ``final`` is out of [0, 1].

    >>> [round(half_cosine(p, final=0.2), 4) for p in (0.0, 0.25, 0.5, 1.0)]
    [1.0, 0.8828, 0.6, 0.2]
    """
    for name, value in (("progress", progress), ("final", final)):
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"{name} is {value} and must lie in [0, 1]")
    return final + (1.0 - final) * (1.0 + math.cos(math.pi * progress)) / 2.0


class Cosine(Technique[CosineConfig]):
    """Lowers the learning rate along half a cosine."""

    Config = CosineConfig
    facts = Facts(
        family="schedules",
        phase=SCHEDULE,
        paper="Loshchilov and Hutter 2017, arXiv 1608.03983",
        neutral={"final": 1.0},
    )

    def attach(self, plan: Plan) -> None:
        final = self.config.final
        if final == 1.0:
            return

        def factor(progress: float) -> float:
            return half_cosine(progress, final)

        plan.add(SCHEDULE, factor)

"""Inverse square root: the learning rate falls as one over the root of the steps, and never ends.

Idea: a decay that needs no planned end, so that training can be stopped or continued anywhere; fast at
first, ever slower later.

Formula, with step t after the warm-up's end and time scale s: factor(t) = 1 / sqrt(1 + t / s). With a
warm-up of s steps in front this is sqrt(s / k) at step k of the run, the schedule of the transformer.

Paper: Vaswani et al. 2017 (1706.03762), section 5.3, equation 3; Zhai et al. 2022 (2106.04560), section
3.5, has the time scale and compares it with other decays.

When it helps: long pre-training of unknown length.
When not: a run of known length, which a decay to zero ends better: here the last rate is still high.

Suggested values: the length of the warm-up; Zhai et al. take 10,000 steps.

Cost: 1 pass; no memory.

Clashes: another schedule.
"""

from __future__ import annotations

import math
from typing import Literal, Self

from pydantic import model_validator

from etude.config.fields import Time, setting
from etude.core.phases import SCHEDULE
from etude.core.plan import Plan
from etude.core.technique import Facts, Technique, TechniqueConfig
from etude.techniques.schedules import Clock, checked


class InverseSqrtConfig(TechniqueConfig):
    """Settings of the inverse square root."""

    name: Literal["inverse_sqrt"] = "inverse_sqrt"
    timescale: Time = setting(
        Time(0.1, "dur"), help="after three times this the rate is half; best as long as the warm-up"
    )

    @model_validator(mode="after")
    def _timescale_is_some_time(self) -> Self:
        if self.timescale.amount == 0:
            raise ValueError(f"timescale is {self.timescale} and must be longer")
        return self


def inverse_sqrt(step: float, timescale: float) -> float:
    """Return ``1 / sqrt(1 + step / timescale)``, the factor of the learning rate.

    Args:
        step: steps of the schedule that are done, 0 or more.
        timescale: steps, above 0.

    Raises:
        ValueError: ``step`` is below 0 or ``timescale`` not above it.

    >>> [inverse_sqrt(step, 100) for step in (0, 300, 1500)]
    [1.0, 0.5, 0.25]
    """
    if step < 0 or timescale <= 0:
        raise ValueError(f"step is {step} and timescale {timescale}; they must be at least 0 and above 0")
    return 1.0 / math.sqrt(1.0 + step / timescale)


class InverseSqrt(Technique[InverseSqrtConfig]):
    """Lowers the learning rate with the root of the steps."""

    Config = InverseSqrtConfig
    facts = Facts(
        family="schedules",
        phase=SCHEDULE,
        paper="Vaswani et al. 2017, arXiv 1706.03762; Zhai et al. 2022, arXiv 2106.04560",
    )

    def attach(self, plan: Plan) -> None:
        clock, timescale = Clock(plan), max(plan.context.steps(self.config.timescale), 1)

        def factor(progress: float) -> float:
            return inverse_sqrt(checked(progress) * clock.length, timescale)

        plan.add(SCHEDULE, factor)

"""Cosine with warm restarts: half cosines in a row, each beginning at the peak again.

Idea: the weights at the end of a cycle are good ones, and a jump back to a high rate leaves their
minimum for another; the ends of the cycles make an ensemble or an average.

Formula, with cycle i of length T_i = T_0 · m^i, the share q of it that is done and the last factor f:
factor = f + (1 - f) (1 + cos(π q)) / 2.

Paper: Loshchilov and Hutter 2017 (1608.03983), equation 5 and section 3; ensembles of the cycles' ends:
Huang et al. 2017 (1704.00109).

When it helps: long runs; a model at several points of one run.
When not: fine-tuning for a few epochs, where each restart costs what the decay had won.

Suggested values: T_0 = 10 epochs and m = 2, or T_0 = 1 epoch and m = 2; choose both so that the run ends
with a cycle: with m = 2 a run of 3 or 7 T_0.

Cost: 1 pass; no memory.

Clashes: another schedule.

The length of a cycle is a time: ``"10ep"``, ``"500st"``, or a share of the schedule as ``"0.25dur"``. Cycles
count from where the warm-up ends.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Literal, Self

from pydantic import model_validator

from etude.config.fields import SearchRange, Time, setting
from etude.core.phases import SCHEDULE
from etude.core.plan import Plan
from etude.core.technique import Facts, Technique, TechniqueConfig
from etude.techniques.schedules import Clock, checked, ends_of_cycles, in_cycle


class CosineRestartsConfig(TechniqueConfig):
    """Settings of the cosine with restarts."""

    name: Literal["cosine_restarts"] = "cosine_restarts"
    first: Time = setting(Time(0.25, "dur"), help="length T_0 of the first cycle, as '10ep'")
    growth: float = setting(
        1.0,
        help="each cycle's length over the one before it, m",
        ge=1.0,
        le=10.0,
        search=SearchRange(1.0, 3.0),
    )
    final: float = setting(
        0.0, help="factor of the learning rate at the end of a cycle", ge=0.0, le=1.0,
        search=SearchRange(0.0, 0.1),
    )  # fmt: skip

    @model_validator(mode="after")
    def _first_is_some_time(self) -> Self:
        if self.first.amount == 0:
            raise ValueError(f"first is {self.first} and must be longer; for one cycle, use cosine")
        return self


def cosine_restarts(step: float, ends: Sequence[int], final: float = 0.0) -> float:
    """Return the factor of the learning rate: half a cosine down in each cycle.

    Args:
        step: steps of the schedule that are done.
        ends: 0, and the step at which each cycle ends, rising.
        final: factor at the end of a cycle, in [0, 1].

    Raises:
        ValueError: ``step`` lies in none of the cycles.

    >>> [round(cosine_restarts(step, [0, 10, 30]), 4) for step in (0, 5, 10, 20, 30)]
    [1.0, 0.5, 1.0, 0.5, 0.0]
    """
    if not 0 <= step <= ends[-1]:
        raise ValueError(f"step is {step} and must lie in [0, {ends[-1]}]")
    _, share = in_cycle(step, ends)
    return final + (1.0 - final) * (1.0 + math.cos(math.pi * share)) / 2.0


class CosineRestarts(Technique[CosineRestartsConfig]):
    """Lowers the learning rate along half cosines."""

    Config = CosineRestartsConfig
    facts = Facts(
        family="schedules",
        phase=SCHEDULE,
        paper="Loshchilov and Hutter 2017, arXiv 1608.03983",
        neutral={"final": 1.0},
    )

    def attach(self, plan: Plan) -> None:
        config, clock = self.config, Clock(plan)
        if config.final == 1.0:
            return

        @cache
        def ends() -> list[int]:
            return ends_of_cycles(config.first, config.growth, plan.context, clock.length)

        def factor(progress: float) -> float:
            return cosine_restarts(round(checked(progress) * clock.length), ends(), config.final)

        plan.add(SCHEDULE, factor)

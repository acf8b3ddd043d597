"""Triangular cycles: the learning rate rises and falls in straight lines between two bounds.

Idea: instead of searching for the one best rate, sweep over all reasonable ones again and again; the
high rates leave saddles and sharp minima, the low ones settle.

Formula, with cycle i = 0, 1, ..., the share q of it that is done and the lower bound b:
factor = b + (1 - b) (1 - |2 q - 1|) a_i, with the amplitude

* a_i = 1 for ``mode = "triangular"``
* a_i = 2^-i for ``mode = "triangular2"``
* a_i = γ^t at step t of the schedule for ``mode = "exp_range"``

Paper: Smith 2017 (1506.01186), section 3.

When it helps: training from scratch when no time is left to search for a rate.
When not: transformers to be fine-tuned, for which one decay to zero does better.

Suggested values: b = 1/4 to 1/3, cycles of 4 to 20 epochs; end the run with a cycle.

Cost: 1 pass; no memory.

Clashes: another schedule; ``warmup``, since each cycle begins with a rise of its own.

NOTE[DIFF]: momentum is not cycled, as in the paper; torch's CyclicLR does so unless told otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Literal, Self

from pydantic import model_validator

from etude.config.fields import SearchRange, Time, setting
from etude.core.phases import SCHEDULE
from etude.core.plan import Plan
from etude.core.technique import Facts, Technique, TechniqueConfig
from etude.techniques.schedules import Clock, checked, ends_of_cycles, in_cycle

Mode = Literal["triangular", "triangular2", "exp_range"]
GAMMA = 0.999


class TriangularConfig(TechniqueConfig):
    """Settings of the triangular cycles."""

    name: Literal["triangular"] = "triangular"
    cycle: Time = setting(Time(0.25, "dur"), help="length of a cycle, up and down, as '8ep'")
    low: float = setting(
        0.25, help="factor of the learning rate where a cycle begins", ge=0.0, le=1.0,
        search=SearchRange(0.05, 0.5),
    )  # fmt: skip
    mode: Mode = setting("triangular", help="the same peak always, half of it each cycle, or a decay by step")
    gamma: float = setting(GAMMA, help="decay of the peak by each step (exp_range)", gt=0.0, le=1.0)

    @model_validator(mode="after")
    def _settings_fit(self) -> Self:
        if self.cycle.amount == 0:
            raise ValueError(f"cycle is {self.cycle} and must be longer")
        if self.mode != "exp_range" and self.gamma != GAMMA:
            raise ValueError(f'gamma means nothing with mode = "{self.mode}"; remove it or use "exp_range"')
        return self


def triangle(
    step: float, ends: Sequence[int], low: float, mode: Mode = "triangular", gamma: float = GAMMA
) -> float:
    """Return the factor of the learning rate in triangular cycles.

    Args:
        step: steps of the schedule that are done.
        ends: 0, and the step at which each cycle ends, rising.
        low: factor where a cycle begins, in [0, 1].
        mode: how the peaks change from cycle to cycle.
        gamma: decay of the peak by each step, for ``"exp_range"``.

    Raises:
        ValueError: ``step`` lies in none of the cycles.

    >>> [triangle(step, [0, 8, 16], 0.5, "triangular2") for step in (0, 2, 4, 8, 12, 16)]
    [0.5, 0.75, 1.0, 0.5, 0.75, 0.5]
    """
    if not 0 <= step <= ends[-1]:
        raise ValueError(f"step is {step} and must lie in [0, {ends[-1]}]")
    cycle, share = in_cycle(step, ends)
    amplitudes = {"triangular": 1.0, "triangular2": 0.5**cycle, "exp_range": gamma**step}
    return float(low + (1.0 - low) * (1.0 - abs(2.0 * share - 1.0)) * amplitudes[mode])


class Triangular(Technique[TriangularConfig]):
    """Cycles the learning rate between two bounds."""

    Config = TriangularConfig
    facts = Facts(
        family="schedules",
        phase=SCHEDULE,
        paper="Smith 2017, arXiv 1506.01186",
        clashes={"warmup": "each triangular cycle begins with a rise of its own; remove one of them"},
        neutral={"low": 1.0},
    )

    def attach(self, plan: Plan) -> None:
        config, clock = self.config, Clock(plan)
        if config.low == 1.0:
            return

        @cache
        def ends() -> list[int]:
            return ends_of_cycles(config.cycle, 1.0, plan.context, clock.length)

        def factor(progress: float) -> float:
            step = round(checked(progress) * clock.length)
            return triangle(step, ends(), config.low, config.mode, config.gamma)

        plan.add(SCHEDULE, factor)

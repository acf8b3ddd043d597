"""Step decay: the learning rate falls by a factor after every so much training.

Idea: train at one rate until it brings nothing more, then go on with a fraction of it, and again.

Formula, with step t of the run, the period s and γ: factor(t) = γ^floor(t / s).

Paper: He et al. 2016 (1512.03385), section 3.4, divides the rate by 10 when the error stalls; the fixed
period is Caffe's ``step`` policy.

When it helps: long runs from scratch, by recipes that name their periods.
When not: short runs and fine-tuning, where a smooth decay needs no period to be found.

Suggested values: γ = 0.1 every third of the run, or γ = 0.5 every tenth.

Cost: 1 pass; no memory.

Clashes: another schedule.

Whether it falls by epochs or by steps is what ``every`` says: ``"10ep"`` falls at the ends of epochs,
however long these are, ``"500st"`` after every 500 optimizer steps, ``"0.3dur"`` after shares of the run.
Times count from the run's start, with a warm-up in front as well.

NOTE[DIFF]: torch's StepLR counts calls of its ``step``, so that the unit depends on where it is called.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Literal, Self

from pydantic import model_validator

from etude.config.fields import SearchRange, Time, setting
from etude.core.phases import SCHEDULE
from etude.core.plan import Plan
from etude.core.technique import Facts, Technique, TechniqueConfig
from etude.techniques.schedules import Clock, checked, ends_of_cycles


class StepDecayConfig(TechniqueConfig):
    """Settings of the step decay."""

    name: Literal["step_decay"] = "step_decay"
    every: Time = setting(Time(0.3, "dur"), help="how long each learning rate holds, as '10ep' or '500st'")
    gamma: float = setting(
        0.1, help="what each fall multiplies by", gt=0.0, le=1.0, search=SearchRange(0.1, 0.9)
    )

    @model_validator(mode="after")
    def _every_is_some_time(self) -> Self:
        if self.every.amount == 0:
            raise ValueError(f"every is {self.every} and must be longer; for no decay, use constant")
        return self


def step_factor(step: int, ends: Sequence[int], gamma: float) -> float:
    """Return ``gamma`` to the number of periods that are over, the factor of the learning rate.

    Args:
        step: optimizer steps done.
        ends: the steps at which periods end, rising.
        gamma: what each fall multiplies by, in (0, 1].

    Raises:
        ValueError: ``gamma`` is out of (0, 1].

    >>> [step_factor(step, [10, 20, 30], 0.5) for step in (0, 9, 10, 25, 30)]
    [1.0, 1.0, 0.5, 0.25, 0.125]
    """
    if not 0.0 < gamma <= 1.0:
        raise ValueError(f"gamma is {gamma} and must lie in (0, 1]")
    return float(gamma ** bisect_right(ends, step))


class StepDecay(Technique[StepDecayConfig]):
    """Lowers the learning rate at equal distances."""

    Config = StepDecayConfig
    facts = Facts(
        family="schedules", phase=SCHEDULE, paper="He et al. 2016, arXiv 1512.03385", neutral={"gamma": 1.0}
    )

    def attach(self, plan: Plan) -> None:
        config, context = self.config, plan.context
        if config.gamma == 1.0:
            return
        ends = ends_of_cycles(config.every, 1.0, context, context.total_steps)[1:]
        clock = Clock(plan)

        def factor(progress: float) -> float:
            return step_factor(clock.step(checked(progress)), ends, config.gamma)

        plan.add(SCHEDULE, factor)

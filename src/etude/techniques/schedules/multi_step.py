"""Multi-step decay: the learning rate falls by a factor at chosen points of training.

Idea: the falls of a recipe that is known to work, at the very epochs that it names.

Formula, with step t of the run and milestones m_1 < m_2 < ...: factor(t) = γ^|{i: m_i <= t}|.

Paper: Goyal et al. 2017 (1706.02677), section 5.1: 1/10 at epochs 30, 60 and 80 of 90, a warm-up included.

When it helps: published recipes for images; runs of a known length.
When not: a run whose length will change, unless the milestones are shares of it.

Suggested values: γ = 0.1 at 1/2 and 3/4 of the run, or at 1/3, 2/3 and 8/9.

Cost: 1 pass; no memory.

Clashes: another schedule.

Each milestone is a time of its own: ``"30ep"``, ``"5000st"`` or ``"0.5dur"``. Times count from the run's
start, with a warm-up in front as well.

NOTE[DIFF]: torch's MultiStepLR counts calls of its ``step``, so that the unit depends on where it is called.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Literal

from etude.config.fields import SearchRange, Time, setting
from etude.core.phases import SCHEDULE
from etude.core.plan import Plan
from etude.core.technique import Facts, Technique, TechniqueConfig
from etude.errors import ConfigError
from etude.techniques.schedules import Clock, checked


class MultiStepConfig(TechniqueConfig):
    """Settings of the multi-step decay."""

    name: Literal["multi_step"] = "multi_step"
    milestones: list[Time] = setting(
        [Time(0.5, "dur"), Time(0.75, "dur")], help="when the rate falls, as ['30ep', '60ep']", min_length=1
    )
    gamma: float = setting(
        0.1, help="what each fall multiplies by", gt=0.0, le=1.0, search=SearchRange(0.1, 0.9)
    )


def multi_step_factor(step: int, milestones: Sequence[int], gamma: float) -> float:
    """Return ``gamma`` to the number of milestones that are reached, the factor of the learning rate.

    Args:
        step: optimizer steps done.
        milestones: steps, rising.
        gamma: what each fall multiplies by, in (0, 1].

    Raises:
        ValueError: ``gamma`` is out of (0, 1], or the milestones do not rise.

    >>> [multi_step_factor(step, [30, 80], 0.5) for step in (0, 29, 30, 79, 80)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """
    if not 0.0 < gamma <= 1.0:
        raise ValueError(f"gamma is {gamma} and must lie in (0, 1]")
    if list(milestones) != sorted(milestones):
        raise ValueError(f"milestones are {list(milestones)} and must rise")
    return float(gamma ** bisect_right(milestones, step))


class MultiStep(Technique[MultiStepConfig]):
    """Lowers the learning rate at the milestones."""

    Config = MultiStepConfig
    facts = Facts(
        family="schedules",
        phase=SCHEDULE,
        paper="Goyal et al. 2017, arXiv 1706.02677",
        neutral={"gamma": 1.0},
    )

    def attach(self, plan: Plan) -> None:
        config, context = self.config, plan.context
        if config.gamma == 1.0:
            return
        milestones = [context.steps(time) for time in config.milestones]
        if milestones != sorted(milestones):
            said = ", ".join(map(str, config.milestones))
            raise ConfigError(
                f"multi_step.milestones are {said}, which is step {', '.join(map(str, milestones))} of this "
                "run, and must rise; put them in order"
            )
        clock = Clock(plan)

        def factor(progress: float) -> float:
            return multi_step_factor(clock.step(checked(progress)), milestones, config.gamma)

        plan.add(SCHEDULE, factor)

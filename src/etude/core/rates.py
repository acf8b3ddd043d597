"""Learning rates: the groups' own, times the warm-up's or the schedule's factor, then what techniques say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from etude.core import phases
from etude.core.plan import Plan
from etude.core.rng import Moment


class Rates:
    """Sets the numbers of the optimizer's groups before each step.

    Each group has ``base_lr``, its learning rate before any factor; ``lr`` is what the step uses.
    """

    def __init__(self, plan: Plan, total_steps: int) -> None:
        self._schedule = plan.one(phases.SCHEDULE) or (lambda _: 1.0)
        self._warmup = plan.one(phases.WARMUP)
        self._rise = plan.context.steps(self._warmup.duration) if self._warmup is not None else 0
        self._tune = plan.many(phases.TUNE)
        self._total_steps = total_steps

    def set(self, groups: Sequence[dict[str, Any]], moment: Moment) -> None:
        """Write the step's numbers into the groups."""
        factor = self.factor(moment.step)
        for group in groups:
            group["lr"] = group["base_lr"] * factor
        for tune in self._tune:
            tune(groups, moment)

    def factor(self, step: int) -> float:
        """The factor of all learning rates; the schedule begins where the warm-up ends."""
        if self._warmup is not None and step < self._rise:
            return self._warmup.factor(step / self._rise)
        return self._schedule((step - self._rise) / max(self._total_steps - self._rise, 1))

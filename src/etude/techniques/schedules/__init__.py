"""Techniques of the family *schedules*, and what they share: positions in cycles and in the run.

A schedule is a function from its progress to a factor of the learning rate, and begins where the
warm-up ends. Those that act at certain steps find the step again from the progress.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from etude.config.fields import Time
from etude.core.phases import WARMUP

if TYPE_CHECKING:
    from etude.core.plan import Plan
    from etude.core.technique import Context


def checked(progress: float) -> float:
    """Return the share of a schedule that is done; raises ``ValueError`` unless it lies in [0, 1].

    >>> checked(0.5)
    0.5
    """
    if not 0.0 <= progress <= 1.0:
        raise ValueError(f"progress is {progress} and must lie in [0, 1]")
    return progress


def in_cycle(progress: float, starts: Sequence[float]) -> tuple[int, float]:
    """Return the number of the running cycle and the share of it that is done.

    Args:
        progress: share of the schedule that is done, in [0, 1].
        starts: where each cycle starts, rising from 0, and where the last one ends.

    At the end of the last cycle, that cycle is done; any other end is the start of the next cycle.

    >>> in_cycle(0.5, [0.0, 0.25, 0.75]), in_cycle(0.25, [0.0, 0.25, 0.75]), in_cycle(0.75, [0.0, 0.25, 0.75])
    ((1, 0.5), (1, 0.0), (1, 1.0))
    """
    cycle = min(bisect_right(starts, progress) - 1, len(starts) - 2)
    return cycle, min((progress - starts[cycle]) / (starts[cycle + 1] - starts[cycle]), 1.0)


def ends_of_cycles(length: Time, growth: float, context: Context, n_steps: int) -> list[int]:
    """Return 0 and the step at which each cycle ends, up to the first that is not before ``n_steps``.

    Args:
        length: of the first cycle; a share is one of ``n_steps``. No cycle is shorter than a step.
        growth: each cycle's length over that of the one before it, 1 or more.
        context: says how many steps an epoch has.
        n_steps: steps of the schedule.
    """
    epoch_steps = context.epoch_steps or (context.steps_per_epoch,)
    ends, lengths = [0], 0.0
    while ends[-1] < n_steps:
        lengths = lengths * growth + 1.0  # 1 + g + g² + ..
        end = Time(length.amount * lengths, length.unit)
        ends.append(max(end.steps(epoch_steps=epoch_steps, total_steps=n_steps), ends[-1] + 1))
    return ends


class Clock:
    """The steps of a schedule, which begins where the warm-up ends.

    To be asked when every technique is attached, since a warm-up is attached after the schedule.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    @cached_property
    def rise(self) -> int:
        """Steps of the warm-up in front."""
        warmup = self._plan.one(WARMUP)
        return 0 if warmup is None else self._plan.context.steps(warmup.duration)

    @cached_property
    def length(self) -> int:
        """Steps of the schedule."""
        return max(self._plan.context.total_steps - self.rise, 1)

    def step(self, progress: float) -> int:
        """The run's step at a share of the schedule."""
        return self.rise + round(progress * self.length)

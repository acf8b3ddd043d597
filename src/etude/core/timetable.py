"""How long a run is, where techniques choose the rows of an epoch or of a step.

Schedules, warm-ups and freezes need the number of steps of each epoch before training begins. It is
counted by asking the techniques for every epoch's rows, and the plan is then made again with the
exact numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from etude.core import phases
from etude.core.examples import Examples
from etude.core.feed import Feed
from etude.core.plan import Plan, build_plan
from etude.core.rng import Moment
from etude.core.technique import Context, Technique

DECIDING = (phases.DATA, phases.SAMPLE, phases.BATCH_SIZE)
"""The phases that decide how many steps an epoch has."""


def build_timed_plan(
    make: Callable[[], Iterable[Technique[Any]]], context: Context, train: Examples, max_steps: int | None
) -> Plan:
    """Return the plan whose context holds the exact number of steps of each epoch.

    Args:
        make: makes the techniques; called twice where they decide the number of steps, so that those of
            the plan start with no memory of the count.
        context: its ``epoch_steps`` say how many epochs there are.
        train: the training rows.
        max_steps: the run's limit, if it has one.

    Raises:
        ConflictError: the techniques cannot work together.
    """
    context = timed(context, context.epoch_steps, max_steps)
    plan = build_plan(make(), context)
    if not any(entry.phase in DECIDING for entry in plan.entries()):
        return plan
    feed = Feed(plan, train, context.batch_size)
    steps = tuple(feed.n_steps(moment_of_epoch(context, epoch)) for epoch in range(context.epochs))
    return build_plan(make(), timed(context, steps, max_steps))


def timed(context: Context, epoch_steps: tuple[int, ...], max_steps: int | None) -> Context:
    """Return the context with other numbers of steps."""
    total = sum(epoch_steps)
    return replace(
        context,
        epoch_steps=epoch_steps,
        steps_per_epoch=epoch_steps[0],
        total_steps=min(total, max_steps or total),
    )


def moment_of_epoch(context: Context, epoch: int) -> Moment:
    """The moment that an epoch's rows are drawn at.

    Its step is the epoch's number, since skipped steps may shift the number of the epoch's first step.
    """
    return Moment(context.seed, epoch, epoch, context.steps_in(epoch), context.total_steps)


def batch_sizes(plan: Plan) -> list[int]:
    """The rows of a step in each epoch."""
    context, choose = plan.context, plan.one(phases.BATCH_SIZE)
    if choose is None:
        return [context.batch_size] * context.epochs
    return [choose(moment_of_epoch(context, epoch)) for epoch in range(context.epochs)]

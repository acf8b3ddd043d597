"""One-cycle schedule: the learning rate rises to a high peak and falls far below its start.

Idea: a short time at a very high learning rate regularises and gets far quickly; the rise makes it
safe and the fall makes use of it.

Formula, with progress p in [0, 1], rise r (``pct_start``), first factor 1/d (``div``), last factor
1/e (``final_div``), and cos(a, b, q) = b + (a - b) (1 + cos(π q)) / 2:

* ``shape = "cosine"``: cos(1/d, 1, p / r) for p <= r, then cos(1, 1/e, (p - r) / (1 - r))
* ``shape = "linear_halves"``: 1/d + (1 - 1/d) (1 - |2 p - 1|), up one half, down the other
* with ``momentum = [h, l]`` the momentum (β1 of Adam's kin) goes from h down to l while the rate rises, and
  back while it falls, by the same curves

Paper: Smith and Topin 2018 (1708.07120), section 3; the momentum: Smith 2018 (1803.09820), section 4.3.

When it helps: a fixed, rather small number of epochs at the highest learning rate that still trains.
When not: where training shall be stopped early or continued, since the best weights come last.

Suggested values: pct_start 0.25, div 25, final_div 1e5, with a peak found by a learning-rate test;
momentum [0.95, 0.85] with SGD.

Cost: 1 pass; no memory.

Clashes: another schedule; ``warmup``, since the cycle begins with a rise of its own.

NOTE[DIFF]: the paper's cycle is linear up and linear down, with a short tail far below the start.
``linear_halves`` is that cycle without its tail; ``cosine`` is what fastai and torch made of it. torch
counts pct_start 0.3 and ``final_div_factor`` from the start, so that final_div is div times torch's,
and reaches the last factor one step earlier. Both cycle the momentum unless told otherwise; here it is
cycled where it is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from etude.config.fields import SearchRange, setting
from etude.core.phases import SCHEDULE, TUNE
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Facts, Technique, TechniqueConfig
from etude.errors import ConflictError

PCT_START, FINAL_DIV = 0.25, 1e5
Momentum = Annotated[float, Field(ge=0.0, lt=1.0)]


class OneCycleConfig(TechniqueConfig):
    """Settings of the one-cycle schedule."""

    name: Literal["one_cycle"] = "one_cycle"
    shape: Literal["cosine", "linear_halves"] = setting(
        "cosine", help="two half cosines, or linear up one half and linear down the other"
    )
    pct_start: float = setting(
        PCT_START, help="share of the run that rises (cosine)", gt=0.0, lt=1.0, search=SearchRange(0.1, 0.5)
    )
    div: float = setting(
        25.0, help="the peak is this many times the start", ge=1.0, search=SearchRange(5.0, 100.0, "log")
    )
    final_div: float = setting(FINAL_DIV, help="the peak is this many times the end (cosine)", ge=1.0)
    momentum: tuple[Momentum, Momentum] | None = setting(
        None, help="momentum at the ends and at the peak, as [0.95, 0.85]; absent: it stays as it is"
    )

    @model_validator(mode="after")
    def _halves_are_halves(self) -> OneCycleConfig:
        if self.shape == "linear_halves" and (self.pct_start, self.final_div) != (PCT_START, FINAL_DIV):
            raise ValueError(
                'shape = "linear_halves" peaks in the middle and ends where it began, so that it takes '
                'neither pct_start nor final_div; remove them or use shape = "cosine"'
            )
        return self


def cosine_cycle(progress: float, pct_start: float, div: float, final_div: float) -> float:
    """Return the factor of the learning rate: half a cosine up, half a cosine down.

    Args:
        progress: share of the schedule that is done, in [0, 1].
        pct_start: share of the schedule that rises, in (0, 1).
        div: the peak is this many times the start.
        final_div: the peak is this many times the end.

    Raises:
        ValueError: ``progress`` is out of [0, 1].

    >>> [round(cosine_cycle(p, 0.25, 25.0, 1e5), 5) for p in (0.0, 0.125, 0.25, 0.625, 1.0)]
    [0.04, 0.52, 1.0, 0.50001, 1e-05]
    """
    if not 0.0 <= progress <= 1.0:
        raise ValueError(f"progress is {progress} and must lie in [0, 1]")
    end = div if progress <= pct_start else final_div
    return 1.0 / end + (1.0 - 1.0 / end) * half_cosines(progress, pct_start)


def half_cosines(progress: float, pct_start: float) -> float:
    """Return the height between 0 and 1 of half a cosine up and half a cosine down.

    >>> [round(half_cosines(p, 0.25), 4) for p in (0.0, 0.125, 0.25, 0.625, 1.0)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    if progress <= pct_start:
        return (1.0 - math.cos(math.pi * progress / pct_start)) / 2.0
    return (1.0 + math.cos(math.pi * (progress - pct_start) / (1.0 - pct_start))) / 2.0


def set_momentum(groups: Sequence[dict[str, Any]], momentum: float) -> None:
    """Write the momentum into the optimizer's groups: β1 where there are betas.

    Raises:
        ConflictError: the optimizer has neither.

    >>> groups = [{"betas": (0.9, 0.999)}, {"momentum": 0.9}]
    >>> set_momentum(groups, 0.85)
    >>> groups
    [{'betas': (0.85, 0.999)}, {'momentum': 0.85}]
    """
    for group in groups:
        if "betas" in group:
            group["betas"] = (momentum, *group["betas"][1:])
        elif "momentum" in group:
            group["momentum"] = momentum
        else:
            raise ConflictError(
                "one_cycle.momentum is given and the optimizer has no momentum; remove it, or choose another "
                "optimizer"
            )


def linear_halves(progress: float, div: float) -> float:
    """Return the factor of the learning rate: linear up one half, linear down the other.

    Args:
        progress: share of the schedule that is done, in [0, 1].
        div: the peak is this many times the start and the end.

    Raises:
        ValueError: ``progress`` is out of [0, 1].

    >>> [round(linear_halves(p, 25.0), 4) for p in (0.0, 0.25, 0.5, 0.75, 1.0)]
    [0.04, 0.52, 1.0, 0.52, 0.04]
    """
    if not 0.0 <= progress <= 1.0:
        raise ValueError(f"progress is {progress} and must lie in [0, 1]")
    return 1.0 / div + (1.0 - 1.0 / div) * (1.0 - abs(2.0 * progress - 1.0))


class OneCycle(Technique[OneCycleConfig]):
    """Raises the learning rate and lowers it again."""

    Config = OneCycleConfig
    facts = Facts(
        family="schedules",
        phase=SCHEDULE,
        paper="Smith and Topin 2018, arXiv 1708.07120",
        neutral={"div": 1.0, "final_div": 1.0},
    )

    def attach(self, plan: Plan) -> None:
        config = self.config
        halves = config.shape == "linear_halves"
        if config.div != 1.0 or (config.final_div != 1.0 and not halves):

            def factor(progress: float) -> float:
                if halves:
                    return linear_halves(progress, config.div)
                return cosine_cycle(progress, config.pct_start, config.div, config.final_div)

            plan.add(SCHEDULE, factor)
        if config.momentum is not None:
            ends, peak = config.momentum

            def tune(groups: Sequence[dict[str, Any]], moment: Moment) -> None:
                p = moment.progress
                height = 1.0 - abs(2.0 * p - 1.0) if halves else half_cosines(p, config.pct_start)
                set_momentum(groups, ends + (peak - ends) * height)

            plan.add(TUNE, tune)

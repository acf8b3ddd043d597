"""Flat then cosine: the learning rate holds for most of the run and then falls along half a cosine.

Idea: optimizers that look ahead or average their steps make good use of a high rate for long; the
decay that the last weights need fits into the last quarter.

Formula, with progress p in [0, 1], flat share r (``pct_start``) and the last factor f:

* factor(p) = 1 for p <= r
* factor(p) = f + (1 - f) (1 + cos(π (p - r) / (1 - r))) / 2 afterwards

Paper: Wright and Demeure 2021 (2106.13731), Ranger21, whose "explore and exploit" schedule it is; the
same as fastai's ``fit_flat_cos``.

When it helps: Ranger, RAdam, Lookahead and their kin; a run that may be lengthened before its decay.
When not: at a peak that only just trains, where so long a stay is a risk.

Suggested values: r = 0.75 (fastai's), f = 1e-5.

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
from etude.techniques.schedules import checked


class FlatCosineConfig(TechniqueConfig):
    """Settings of the flat-then-cosine schedule."""

    name: Literal["flat_cosine"] = "flat_cosine"
    pct_start: float = setting(
        0.75, help="share of the run that is flat", ge=0.0, lt=1.0, search=SearchRange(0.3, 0.9)
    )
    final: float = setting(1e-5, help="factor of the learning rate at the end", ge=0.0, le=1.0)


def flat_cosine(progress: float, pct_start: float, final: float = 0.0) -> float:
    """Return the factor of the learning rate: 1, and from ``pct_start`` on half a cosine down.

    Args:
        progress: share of the schedule that is done, in [0, 1].
        pct_start: share that is flat, in [0, 1).
        final: factor at the end, in [0, 1].

    Raises:
        ValueError: ``progress`` is out of [0, 1].

    >>> [round(flat_cosine(p, 0.75), 4) for p in (0.0, 0.75, 0.875, 1.0)]
    [1.0, 1.0, 0.5, 0.0]
    """
    if checked(progress) <= pct_start:
        return 1.0
    share = (progress - pct_start) / (1.0 - pct_start)
    return final + (1.0 - final) * (1.0 + math.cos(math.pi * share)) / 2.0


class FlatCosine(Technique[FlatCosineConfig]):
    """Holds the learning rate, then lowers it."""

    Config = FlatCosineConfig
    facts = Facts(
        family="schedules",
        phase=SCHEDULE,
        paper="Wright and Demeure 2021, arXiv 2106.13731",
        neutral={"final": 1.0},
    )

    def attach(self, plan: Plan) -> None:
        config = self.config
        if config.final == 1.0:
            return

        def factor(progress: float) -> float:
            return flat_cosine(progress, config.pct_start, config.final)

        plan.add(SCHEDULE, factor)

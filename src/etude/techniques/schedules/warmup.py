"""Warm-up: the learning rate rises in a straight line before the schedule begins.

Idea: while a fresh head and the optimizer's averages know nothing yet, large steps would only shake
the pretrained weights; so begin with small ones.

Formula, with w steps of warm-up, total steps T and the first factor s:

* step k < w: factor = s + (1 - s) k / w
* afterwards: the schedule, over progress (k - w) / (T - w)

Paper: Goyal et al. 2017 (1706.02677), section 2.2; Vaswani et al. 2017 (1706.03762), section 5.3.

When it helps: transformers, above all with normalisation after the residual sum (Xiong et al. 2020,
2002.04745); large batches; training that diverges at first.
When not: a head that starts from a linear probe needs little of it.

Suggested values: 5 to 10 % of the steps, start 0.

Cost: 1 pass; no memory.

Clashes: ``one_cycle``, ``triangular``, ``growing_cycles`` and ``warmup_stable_decay``, which begin with a
rise of their own.

NOTE[DIFF]: with start 0 the first step changes nothing, as in Hugging Face's schedules.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

from etude.config.fields import SearchRange, Time, setting
from etude.core.phases import WARMUP
from etude.core.phases import Warmup as Rise
from etude.core.plan import Plan
from etude.core.technique import Facts, Technique, TechniqueConfig


class WarmupConfig(TechniqueConfig):
    """Settings of the warm-up."""

    name: Literal["warmup"] = "warmup"
    duration: Time = setting(Time(0.1, "dur"), help="how long the learning rate rises")
    start: float = setting(
        0.0,
        help="factor of the learning rate at the first step",
        ge=0.0,
        lt=1.0,
        search=SearchRange(0.0, 0.5),
    )


def linear_rise(share: float, start: float = 0.0) -> float:
    """Return ``start + (1 - start) * share``, the factor of the learning rate.

    Args:
        share: share of the warm-up that is done, in [0, 1].
        start: factor at the first step, in [0, 1).

    Raises:
        ValueError: ``share`` is out of [0, 1] or ``start`` out of [0, 1).

    >>> [linear_rise(share, start=0.5) for share in (0.0, 0.5, 1.0)]
    [0.5, 0.75, 1.0]
    """
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"share is {share} and must lie in [0, 1]")
    if not 0.0 <= start < 1.0:
        raise ValueError(f"start is {start} and must lie in [0, 1)")
    return start + (1.0 - start) * share


class Warmup(Technique[WarmupConfig]):
    """Puts a rise in front of the schedule."""

    Config = WarmupConfig
    facts = Facts(
        family="schedules",
        phase=WARMUP,
        paper="Goyal et al. 2017, arXiv 1706.02677",
        clashes={"one_cycle": "one_cycle begins with a rise of its own; remove one of them"},
        neutral={"duration": "0st"},
    )

    def attach(self, plan: Plan) -> None:
        config = self.config
        if plan.context.steps(config.duration) == 0:
            return
        plan.add(WARMUP, Rise(config.duration, partial(linear_rise, start=config.start)))

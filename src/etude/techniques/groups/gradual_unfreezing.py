"""Gradual unfreezing: the head first, then the blocks under it, at smaller rates the deeper they lie.

Idea: a random head trains alone until its gradients mean something; then the rest thaws, all at once or
block by block from the top, at a lower rate, and the lowest blocks, which know the most general things, at
the lowest.

Formula, with n blocks, the depth d = 0 of the head to n - 1 of the input, the head's time t, and factors:

* while k < t only the head trains, at lr; ``factor`` f afterwards: the head's rate is f · lr
* a block at depth d trains from t on, or from t + (d - 1) · ``every`` on where blocks thaw one by one
* its rate is that of the head times l^(d / (n - 1)), with l = ``lowest``: equal ratios from block to block
* with ``one_cycle`` each stage has a cycle of its own: half a cosine from 1/25 up to 1 over its first
  quarter, and down to 1e-5 over the rest

Paper: Howard and Ruder 2018 (1801.06146), sections 3.2 and 3.3; in two stages it is fastai's recipe
``freeze(); fit_one_cycle(1, lr); unfreeze(); lr /= 2; fit_one_cycle(1, slice(lr/100, lr))``.

When it helps: fine-tuning on little data; head-only epochs cost almost nothing, since features are cached.
When not: much data, or a task far from the pretraining.

Suggested values: one epoch of the head, f = 0.5 (0.1 to 0.5 for the whole model), l = 0.01; every = 1 epoch.

Cost: less than 1 pass while blocks rest; no memory, or one vector for each row where features are cached.

Clashes: none; factors of several rules are multiplied and the latest thaw counts. With ``one_cycle`` its
cycles take the place of the schedule and of the warm-up.

NOTE[DIFF]: Howard and Ruder's ratio between neighbours is 1/2.6 whatever the depth; here the ends are given.
fastai restarts the optimizer in each stage, ours keeps its averages.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any, Literal, Self

from pydantic import field_validator, model_validator

from etude.config.fields import SearchRange, Strict, Time, setting
from etude.core.phases import GROUPS, TUNE, GroupRule, Parameter
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Context, Facts, Technique, TechniqueConfig
from etude.errors import ConfigError
from etude.techniques.groups import read_tables

HEAD, FACTOR = Time(1, "ep"), 0.5
NEVER = Time(1, "dur")


class Stage(Strict):
    """A stage of training: from when on how many blocks train, and how fast."""

    start: Time = setting(help="when it begins")
    blocks: int | None = setting(None, help="blocks that train, counted from the head; absent: all", ge=1)
    factor: float = setting(1.0, help="factor of the learning rate", gt=0.0)


class GradualUnfreezingConfig(TechniqueConfig):
    """Settings of gradual unfreezing."""

    name: Literal["gradual_unfreezing"] = "gradual_unfreezing"
    head: Time = setting(HEAD, help="how long the head trains alone")
    every: Time | None = setting(None, help="one more block each this, from the top; absent: all at once")
    factor: float = setting(
        FACTOR, help="factor of the learning rate after the head's time", gt=0.0,
        search=SearchRange(0.1, 1.0, "log"),
    )  # fmt: skip
    lowest: float = setting(
        0.01, help="the lowest block's learning rate over the head's", gt=0.0, le=1.0,
        search=SearchRange(0.003, 1.0, "log"),
    )  # fmt: skip
    one_cycle: bool = setting(False, help="a cycle in each stage, in place of the schedule")
    stages: list[Stage] | None = setting(
        None, help="in place of head, every and factor: tables with start, blocks and factor", min_length=1
    )

    @field_validator("stages", mode="before")
    @classmethod
    def _name_the_fault(cls, stages: Any) -> Any:
        return read_tables(Stage, stages, "stage")

    @model_validator(mode="after")
    def _one_way_to_say_it(self) -> Self:
        if self.stages is not None and (self.head, self.every, self.factor) != (HEAD, None, FACTOR):
            raise ValueError("stages stand in place of head, every and factor; remove these, or stages")
        if self.every is not None and self.every.amount == 0:
            raise ValueError(f"every is {self.every} and must be longer; to thaw all at once, remove it")
        return self


def depth_factor(depth: int, n_blocks: int, lowest: float) -> float:
    """Return ``lowest ** (depth / (n_blocks - 1))``, the factor of a block's learning rate.

    Args:
        depth: 0 for the head, n_blocks - 1 for the input.
        n_blocks: blocks, the head's included.
        lowest: the factor of the lowest block, above 0.

    Raises:
        ValueError: ``depth`` is none of the blocks'.

    The rates of fastai's ``slice(lr/100, lr)`` over three groups:

    >>> [round(depth_factor(depth, 3, 0.01), 4) for depth in range(3)]
    [1.0, 0.1, 0.01]
    """
    if not 0 <= depth < n_blocks:
        raise ValueError(f"depth is {depth} and must lie in 0 to {n_blocks - 1}")
    return float(lowest ** (depth / max(n_blocks - 1, 1)))


def cycle_factor(share: float) -> float:
    """Return the factor of the learning rate in a stage's own cycle.

    Args:
        share: share of the stage that is done, in [0, 1].

    >>> [round(cycle_factor(share), 5) for share in (0.0, 0.125, 0.25, 0.625, 1.0)]
    [0.04, 0.52, 1.0, 0.50001, 1e-05]
    """
    end, part = (1 / 25, 1 - share / 0.25) if share <= 0.25 else (1e-5, (share - 0.25) / 0.75)
    return end + (1.0 - end) * (1.0 + math.cos(math.pi * part)) / 2.0


def thaw(depth: int, stages: Sequence[Stage]) -> Time:
    """Return when a block begins to train: with the first stage that has it, or never.

    >>> stages = [Stage(start="0ep", blocks=1), Stage(start="2ep", blocks=3)]
    >>> [str(thaw(depth, stages)) for depth in range(4)]
    ['0ep', '2ep', '2ep', '1dur']
    """
    return next((s.start for s in stages if s.blocks is None or depth < s.blocks), NEVER)


def after(start: Time, every: Time, times: int, context: Context) -> Time:
    """Return the time that is so many times ``every`` after ``start``."""
    if start.unit == every.unit:
        return Time(start.amount + times * every.amount, start.unit)
    return Time(context.steps(start) + times * context.steps(every), "st")


class GradualUnfreezing(Technique[GradualUnfreezingConfig]):
    """Thaws blocks by stages, and sets each stage's rates."""

    Config = GradualUnfreezingConfig
    facts = Facts(
        family="groups",
        phase=GROUPS,
        paper="Howard and Ruder 2018, arXiv 1801.06146",
        neutral={"head": "0ep", "factor": 1.0, "lowest": 1.0},
    )

    def attach(self, plan: Plan) -> None:
        config, context = self.config, plan.context
        stages = self._stages(context)
        starts = [context.steps(stage.start) for stage in stages]
        self._check(stages, starts, context)
        if len(stages) > 1 or stages[0].blocks is not None or config.lowest != 1.0:

            def rule(parameter: Parameter) -> GroupRule:
                # A pooler is fresh and counts as a part of the head.
                above = int(context.backbone.pooler is not None)
                n_blocks = parameter.n_blocks - above
                depth = 0 if parameter.in_head else n_blocks - 1 - parameter.block
                return GroupRule(
                    depth_factor(depth, n_blocks, config.lowest), frozen_until=thaw(depth, stages)
                )

            plan.add(GROUPS, rule)
        if config.one_cycle or any(stage.factor != 1.0 for stage in stages):
            ends = [*starts[1:], context.total_steps]

            def tune(groups: Sequence[dict[str, Any]], moment: Moment) -> None:
                i = bisect_right(starts, moment.step) - 1
                share = (moment.step - starts[i]) / max(ends[i] - starts[i], 1)
                for group in groups:
                    rate = (
                        group["base_lr"] * cycle_factor(min(share, 1.0)) if config.one_cycle else group["lr"]
                    )
                    group["lr"] = rate * stages[i].factor

            # First of all, since it may take the place of what the schedule wrote.
            plan.add(TUNE, tune, rank=-1000)

    def _stages(self, context: Context) -> list[Stage]:
        config = self.config
        if config.stages is not None:
            return config.stages
        n_blocks = len(context.backbone.blocks()) - int(context.backbone.pooler is not None)
        if config.every is None:
            rest = [Stage(start=config.head, factor=config.factor)]
        else:
            times = [after(config.head, config.every, i, context) for i in range(max(n_blocks - 1, 1))]
            # Blocks whose turn does not come before the end of the run rest throughout.
            in_time = [times[0], *(time for time in times[1:] if context.steps(time) < context.total_steps)]
            rest = [Stage(start=time, blocks=i + 2, factor=config.factor) for i, time in enumerate(in_time)]
        alone = [Stage(start="0st", blocks=1)] if context.steps(config.head) > 0 else []
        return [*alone, *rest]

    def _check(self, stages: Sequence[Stage], starts: Sequence[int], context: Context) -> None:
        said = ", ".join(str(stage.start) for stage in stages)
        if starts[0] != 0 or list(starts) != sorted(set(starts)):
            raise ConfigError(
                f"gradual_unfreezing has stages that start at {said}, which is step "
                f"{', '.join(map(str, starts))} of this run; they must start at 0 and rise"
            )
        blocks = [math.inf if stage.blocks is None else stage.blocks for stage in stages]
        if blocks != sorted(blocks):
            raise ConfigError(
                "gradual_unfreezing has a stage with fewer blocks than the one before it; thaw only"
            )
        late = [
            stage.start
            for stage in stages
            if stage.start.unit == "ep" and stage.start.amount >= context.epochs
        ]
        if late:
            raise ConfigError(
                f"gradual_unfreezing begins a stage at {late[0]} and the run has {context.epochs} epochs; "
                "raise train.epochs, or begin earlier"
            )

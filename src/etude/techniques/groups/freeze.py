"""Freezing: train the head alone for a while, then everything.

Idea: a random head sends misleading gradients into pretrained layers; let it learn first. While the
layers under it rest, their features can be computed once, so that these epochs cost almost nothing.

Formula, with a time t: at step k a parameter under the head moves only if k >= t.

Paper: Howard and Ruder 2018 (1801.06146), section 3.3 (they thaw one layer after the other); Kumar et
al. 2022 (2202.10054).

When it helps: little data; a random head; features that are good already; a slow machine.
When not: a task far from what the model was pretrained on, with enough data.

Suggested values: one epoch; ``until = "1dur"`` never trains the layers under the head.

Cost: less than 1 pass while frozen; no memory, or one vector for each row where features are cached.

Clashes: none; techniques that change inputs at random keep features from being cached.

To train everything from the start is to leave this technique out; ``until = "0ep"`` says the same.

NOTE[DIFF]: all layers thaw at once; the paper's way from the top down is ``gradual_unfreezing``.
"""

from __future__ import annotations

from typing import Literal

from etude.config.fields import Time, setting
from etude.core.phases import GROUPS, GroupRule, Parameter
from etude.core.plan import Plan
from etude.core.technique import Facts, Technique, TechniqueConfig

Part = Literal["backbone", "embeddings"]


class FreezeConfig(TechniqueConfig):
    """Settings of the freezing."""

    name: Literal["freeze"] = "freeze"
    until: Time = setting(Time(1, "ep"), help="when the frozen part begins to train")
    only: Part = setting("backbone", help="all blocks under the head, or only the first, the embeddings")


def is_frozen_part(parameter: Parameter, only: Part = "backbone") -> bool:
    """Whether a parameter belongs to the part that rests.

    Args:
        parameter: its block and the number of blocks; the last block is the head.
        only: ``"backbone"`` for all blocks under the head, ``"embeddings"`` for the first of them.

    >>> import torch
    >>> value = torch.nn.Parameter(torch.zeros(1))
    >>> blocks = [Parameter("w", value, block, 3, False, False) for block in range(3)]
    >>> [is_frozen_part(p) for p in blocks], [is_frozen_part(p, "embeddings") for p in blocks]
    ([True, True, False], [True, False, False])
    """
    if parameter.in_head:
        return False
    return only == "backbone" or parameter.block == 0


class Freeze(Technique[FreezeConfig]):
    """Keeps blocks from training before a time."""

    Config = FreezeConfig
    facts = Facts(
        family="groups",
        phase=GROUPS,
        paper="Howard and Ruder 2018, arXiv 1801.06146",
        neutral={"until": "0ep"},
    )

    def attach(self, plan: Plan) -> None:
        until, only = self.config.until, self.config.only
        if plan.context.steps(until) == 0:
            return

        def rule(parameter: Parameter) -> GroupRule:
            return GroupRule(frozen_until=until if is_frozen_part(parameter, only) else None)

        plan.add(GROUPS, rule)

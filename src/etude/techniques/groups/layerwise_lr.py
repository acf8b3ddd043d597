"""Layer-wise learning rates: the nearer to the input, the smaller the steps.

Idea: lower layers hold general knowledge of the language that should move little; upper layers and
the head have to learn the task.

Formula, with n blocks counted from the input, block b of a parameter and decay d:
lr' = lr · d^(n - 1 - b), so that the head, block n - 1, keeps the full rate.

Paper: Howard and Ruder 2018 (1801.06146), section 3.2; Clark et al. 2020 (2003.10555), appendix B.

When it helps: fine-tuning a deep pretrained model on little data.
When not: training from scratch; a model of few layers, where it changes little.

Suggested values: d = 0.8 for small and base models, 0.9 for large ones; Howard and Ruder's is 1/2.6.

Cost: 1 pass; no memory, though one parameter group for each block.

Clashes: none; factors of several rules are multiplied, and a frozen block does not move at any rate.
"""

from __future__ import annotations

from typing import Literal

from etude.config.fields import SearchRange, setting
from etude.core.phases import GROUPS, GroupRule, Parameter
from etude.core.plan import Plan
from etude.core.technique import Facts, Technique, TechniqueConfig


class LayerwiseLrConfig(TechniqueConfig):
    """Settings of the layer-wise learning rates."""

    name: Literal["layerwise_lr"] = "layerwise_lr"
    decay: float = setting(
        0.9, help="factor from each block to the one below it", gt=0.0, le=1.0, search=SearchRange(0.6, 1.0)
    )


def block_factor(block: int, n_blocks: int, decay: float) -> float:
    """Return ``decay ** (n_blocks - 1 - block)``, the factor of the learning rate.

    Args:
        block: number of the block, 0 at the input.
        n_blocks: number of blocks, the head's included.
        decay: factor from each block to the one below it, in (0, 1].

    Raises:
        ValueError: ``block`` is none of the blocks.

    >>> [block_factor(block, 4, 0.5) for block in range(4)]
    [0.125, 0.25, 0.5, 1.0]
    """
    if not 0 <= block < n_blocks:
        raise ValueError(f"block is {block} and must lie in 0 to {n_blocks - 1}")
    return float(decay ** (n_blocks - 1 - block))


class LayerwiseLr(Technique[LayerwiseLrConfig]):
    """Scales each block's learning rate."""

    Config = LayerwiseLrConfig
    facts = Facts(
        family="groups",
        phase=GROUPS,
        paper="Howard and Ruder 2018, arXiv 1801.06146",
        neutral={"decay": 1.0},
    )

    def attach(self, plan: Plan) -> None:
        decay = self.config.decay
        if decay == 1.0:
            return

        def rule(parameter: Parameter) -> GroupRule:
            return GroupRule(lr_scale=block_factor(parameter.block, parameter.n_blocks, decay))

        plan.add(GROUPS, rule)

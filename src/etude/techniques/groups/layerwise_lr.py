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
from etude.core.groups import describe_parameters
from etude.core.phases import GROUPS, GroupRule, Parameter
from etude.core.plan import Plan
from etude.core.technique import Facts, Technique, TechniqueConfig
from etude.errors import ConflictError


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


def rest_throughout(plan: Plan) -> bool:
    """Whether the rules of groups that stand in the plan freeze everything under the head to the end.

    A technique that changes the model (LoRA) may freeze everything that there is and add what trains.
    """
    rules = [
        entry.contribution
        for entry in plan.entries()
        if entry.phase is GROUPS and plan.techniques[entry.technique].facts.phase is GROUPS
    ]
    context = plan.context

    def rests(parameter: Parameter) -> bool:
        times = [rule(parameter).frozen_until for rule in rules]
        return max((context.steps(t) for t in times if t is not None), default=0) >= context.total_steps

    return all(rests(p) for p in describe_parameters(context.backbone) if not p.in_head)


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

        if rest_throughout(plan):
            raise ConflictError(
                "layerwise_lr scales the learning rates of layers, and freeze or another rule of groups "
                "keeps every layer under the head at rest for the whole run; let them train, or remove it"
            )

        def rule(parameter: Parameter) -> GroupRule:
            return GroupRule(lr_scale=block_factor(parameter.block, parameter.n_blocks, decay))

        plan.add(GROUPS, rule)

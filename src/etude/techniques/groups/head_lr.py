"""Head learning rate: the fresh head learns faster than the pretrained layers under it.

Idea: a head that starts from random numbers has far to go; at the small rate that suits pretrained
layers it wastes the first epochs.

Formula, with a factor f: lr' = f · lr for the head's parameters, lr' = lr for all others.

Paper: Howard and Ruder 2018 (1801.06146), section 3.2, where each layer has a rate of its own; Kumar
et al. 2022 (2202.10054) say what a bad head does to the layers under it.

When it helps: fine-tuning with a head that starts from random numbers, above all with many labels.
When not: a head that starts from a linear probe is trained already.

Suggested values: f = 10 to 100, the more the smaller the learning rate.

Cost: 1 pass; no memory.

Clashes: none; factors of several rules are multiplied.
"""

from __future__ import annotations

from typing import Literal

from etude.config.fields import SearchRange, setting
from etude.core.phases import GROUPS, GroupRule, Parameter
from etude.core.plan import Plan
from etude.core.technique import Facts, Technique, TechniqueConfig


class HeadLrConfig(TechniqueConfig):
    """Settings of the head's learning rate."""

    name: Literal["head_lr"] = "head_lr"
    factor: float = setting(
        10.0, help="the head's learning rate over the others'", gt=0.0, search=SearchRange(1.0, 100.0, "log")
    )


def head_factor(parameter: Parameter, factor: float) -> float:
    """Return ``factor`` for a parameter of the head, the last block, and 1 for any other.

    Args:
        parameter: its block and the number of blocks.
        factor: the head's learning rate over the others', above 0.

    Raises:
        ValueError: ``factor`` is not above 0.

    >>> import torch
    >>> value = torch.nn.Parameter(torch.zeros(1))
    >>> [head_factor(Parameter("w", value, block, 3, False, False), 10.0) for block in range(3)]
    [1.0, 1.0, 10.0]
    """
    if factor <= 0.0:
        raise ValueError(f"factor is {factor} and must be above 0")
    return factor if parameter.in_head else 1.0


class HeadLr(Technique[HeadLrConfig]):
    """Scales the head's learning rate."""

    Config = HeadLrConfig
    facts = Facts(
        family="groups",
        phase=GROUPS,
        paper="Howard and Ruder 2018, arXiv 1801.06146",
        neutral={"factor": 1.0},
    )

    def attach(self, plan: Plan) -> None:
        factor = self.config.factor
        if factor == 1.0:
            return

        def rule(parameter: Parameter) -> GroupRule:
            return GroupRule(lr_scale=head_factor(parameter, factor))

        plan.add(GROUPS, rule)

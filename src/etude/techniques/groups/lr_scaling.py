"""Learning-rate scaling: a rate found at one batch size, carried over to another.

Idea: a step of a larger batch has less noise and an epoch has fewer steps, so that a step may and must be
longer; a rule says by how much, and a recipe survives more or less memory.

Formula, with the batch size B of the run, the batch size B_0 that the rate was found at, and power a:
lr' = lr · (B / B_0)^a, with a = 1 the linear rule and a = 1/2 the square root.

Paper: Goyal et al. 2017 (1706.02677), section 2.1, the linear rule; Krizhevsky 2014 (1404.5997), section 5,
the square root; Malladi et al. 2022 (2205.10287) derive the square root for Adam.

When it helps: a recipe that was made on other hardware; batch sizes that a study varies.
When not: where the rate is searched for at the batch size of the run anyway; very large batches, where every
rule breaks.

Suggested values: a = 1 with SGD, a = 0.5 with Adam and its kin; with a warm-up where the rate grows.

Cost: 1 pass; no memory.

Clashes: none; factors of several rules are multiplied.

B is ``train.batch_size``, the rows of one optimizer step: micro-batches and processes only share them, so
that their numbers do not enter. Where ``growing_batch`` grows it in place of a decay, the rate stays.
"""

from __future__ import annotations

from typing import Literal

from etude.config.fields import setting
from etude.core.phases import GROUPS, GroupRule, Parameter
from etude.core.plan import Plan
from etude.core.technique import Facts, Technique, TechniqueConfig


class LrScalingConfig(TechniqueConfig):
    """Settings of the learning rate's scaling."""

    name: Literal["lr_scaling"] = "lr_scaling"
    reference: int = setting(help="the batch size that the learning rate was found at", unit="rows", ge=1)
    power: float = setting(0.5, help="1 for the linear rule, 0.5 for the square root", ge=0.0, le=1.0)


def batch_factor(batch_size: int, reference: int, power: float) -> float:
    """Return ``(batch_size / reference) ** power``, the factor of the learning rate.

    Args:
        batch_size: rows of one optimizer step.
        reference: rows of one at which the rate was found.
        power: 1 for the linear rule, 0.5 for the square root.

    Raises:
        ValueError: one of the batch sizes is not above 0.

    >>> batch_factor(8192, 256, 1.0), batch_factor(128, 32, 0.5)
    (32.0, 2.0)
    """
    if batch_size < 1 or reference < 1:
        raise ValueError(f"the batch sizes are {batch_size} and {reference} and must be above 0")
    return float((batch_size / reference) ** power)


class LrScaling(Technique[LrScalingConfig]):
    """Scales all learning rates by the batch size."""

    Config = LrScalingConfig
    facts = Facts(
        family="groups",
        phase=GROUPS,
        paper="Goyal et al. 2017, arXiv 1706.02677; Malladi et al. 2022, arXiv 2205.10287",
        neutral={"power": 0.0},
        example={"reference": 32},
    )

    def attach(self, plan: Plan) -> None:
        factor = batch_factor(plan.context.batch_size, self.config.reference, self.config.power)
        if factor == 1.0:
            return

        def rule(parameter: Parameter) -> GroupRule:
            return GroupRule(lr_scale=factor)

        plan.add(GROUPS, rule)

"""Clip by value: no single number of a gradient is larger than a bound.

Idea: where a few numbers of a gradient are huge, clipping its norm would shrink all the others too.
Cutting each number on its own leaves the others as they are.

Formula, for every number g of the gradient and the bound v: g' = min(max(g, -v), v).

Paper: Mikolov 2012, Statistical language models based on neural networks (PhD thesis, Brno); beside
clipping by norm in Goodfellow et al. 2016, Deep Learning, section 10.11.1.

When it helps: rare, very uneven gradients, as with sparse inputs and recurrent networks.
When not: as a first choice, since the gradient's direction changes; see ``clip``. Under Adam a bound on
single numbers does little, since each is divided by its own average.

Suggested values: 0.5, from 0.01 to 10; well above the size of most numbers.

Cost: 1 pass; one norm, which is logged.

Clashes: none; it acts in front of clipping by norm.

NOTE[DIFF]: an infinite number is no large one: the norm before clipping is handed to the core, which
leaves the step out where it is not finite, while a cut alone would turn infinity into v.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn.utils import clip_grad_value_, get_total_norm

from etude.config.fields import SearchRange, setting
from etude.core.phases import GRADIENT
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Facts, Technique, TechniqueConfig

CLIP_VALUE_RANK = 20
"""In front of noise and of clipping by norm."""


class ClipValueConfig(TechniqueConfig):
    """Settings of clipping by value."""

    name: Literal["clip_value"] = "clip_value"
    max_value: float = setting(
        0.5, help="largest number of a gradient", gt=0.0, search=SearchRange(0.01, 10.0, "log")
    )


def clip_values(params: Sequence[nn.Parameter], max_value: float) -> Tensor:
    """Cut every number of every gradient to ``[-max_value, max_value]``, in place.

    Args:
        params: parameters; those without a gradient are passed over.
        max_value: v, above 0.

    Returns:
        The norm of all gradients together before, a number on the device.

    Raises:
        ValueError: ``max_value`` is not above 0.

    >>> import torch
    >>> w = nn.Parameter(torch.zeros(2))
    >>> w.grad = torch.tensor([3.0, -4.0])
    >>> clip_values([w], 3.5), w.grad
    (tensor(5.), tensor([ 3.0000, -3.5000]))
    """
    if not max_value > 0.0:
        raise ValueError(f"max_value is {max_value} and must be above 0")
    norm = get_total_norm([value.grad for value in params if value.grad is not None])
    clip_grad_value_(params, max_value)
    return norm


class ClipValue(Technique[ClipValueConfig]):
    """Cuts every number of the gradient of a step."""

    Config = ClipValueConfig
    facts = Facts(
        family="gradient",
        phase=GRADIENT,
        paper="Mikolov 2012, PhD thesis, Brno University of Technology",
        neutral={"max_value": 1e30},
    )

    def attach(self, plan: Plan) -> None:
        max_value = self.config.max_value

        def clip(params: Sequence[nn.Parameter], moment: Moment) -> Tensor:
            return clip_values(params, max_value)

        plan.add(GRADIENT, clip, rank=CLIP_VALUE_RANK)

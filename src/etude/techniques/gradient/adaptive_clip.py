"""Adaptive clipping: no unit's gradient is long beside the unit's own weights.

Idea: what matters is how much a step changes a unit, and that is its gradient's norm as a share of its
weights' norm. One bound on that share suits all layers, whatever their size, learning rate and depth.

Formula, for each output unit i with weights W_i (a row of a matrix, a filter of a convolution) and
gradient G_i, and for each vector of biases or gains as a whole:

* m_i = λ max(||W_i||, ε)
* G'_i = G_i m_i / ||G_i|| where ||G_i|| > m_i, else G_i

Paper: Brock et al. 2021 (2102.06171), equation 3; the head is left out, as in section 4.1.

When it helps: networks without normalisation, large batches, high learning rates from scratch.
When not: fine-tuning under AdamW, whose steps do not grow with the gradient; fresh weights near zero,
whose gradients are cut to almost nothing.

Suggested values: λ = 0.01 for large batches, from 0.01 to 0.16 for smaller ones; ε = 1e-3.

Cost: 1 pass; two norms for each unit, and one over all gradients, which is logged.

Clashes: none; it acts in front of noise and of clipping by norm.

NOTE[DIFF]: a row of an embedding table is one token and so one unit. An infinite gradient is not
clipped to a finite one: the norm before clipping is handed to the core, which leaves such a step out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from etude.config.fields import SearchRange, setting
from etude.core.backbone import Backbone
from etude.core.phases import GRADIENT, MODEL
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Facts, Technique, TechniqueConfig

ADAPTIVE_CLIP_RANK = 10
"""In front of everything else that changes gradients."""
LAST_EDIT = 1000
"""Its rank in the phase model: the head is looked up in the model as it is trained."""


class AdaptiveClipConfig(TechniqueConfig):
    """Settings of adaptive clipping."""

    name: Literal["adaptive_clip"] = "adaptive_clip"
    clipping: float = setting(
        0.01, help="longest gradient of a unit, as a share of its weights' norm", gt=0.0,
        search=SearchRange(0.005, 0.2, "log"),
    )  # fmt: skip
    eps: float = setting(1e-3, help="least norm that a unit's weights count as", gt=0.0)


def unit_norms(value: Tensor) -> Tensor:
    """Return the norm of each output unit, with the shape (units, 1, ...), or of a whole vector.

    >>> unit_norms(torch.tensor([[3.0, 4.0], [0.0, 2.0]]))
    tensor([[5.],
            [2.]])
    >>> unit_norms(torch.tensor([3.0, 4.0]))
    tensor(5.)
    """
    if value.dim() <= 1:
        return torch.linalg.vector_norm(value)
    return torch.linalg.vector_norm(value, dim=tuple(range(1, value.dim())), keepdim=True)


def clip_units(params: Sequence[nn.Parameter], clipping: float, eps: float = 1e-3) -> None:
    """Scale down each unit's gradient that is longer than ``clipping * max(||W||, eps)``, in place.

    Args:
        params: parameters; those without a gradient are passed over.
        clipping: λ, above 0.
        eps: ε, above 0.

    Raises:
        ValueError: ``clipping`` or ``eps`` is not above 0.

    The first row's weights have the norm 5, and its gradient may have 0.5; the second stays:

    >>> w = nn.Parameter(torch.tensor([[3.0, 4.0], [0.0, 5.0]]))
    >>> w.grad = torch.tensor([[6.0, 8.0], [0.1, 0.0]])
    >>> clip_units([w], 0.1)
    >>> w.grad
    tensor([[0.3000, 0.4000],
            [0.1000, 0.0000]])
    """
    for name, value in (("clipping", clipping), ("eps", eps)):
        if not value > 0.0:
            raise ValueError(f"{name} is {value} and must be above 0")
    for weight in params:
        if weight.grad is not None:
            longest = clipping * unit_norms(weight.detach()).clamp_min(eps)
            norms = unit_norms(weight.grad)
            weight.grad.mul_(torch.where(norms > longest, longest / norms.clamp_min(1e-6), 1.0))


class AdaptiveClip(Technique[AdaptiveClipConfig]):
    """Clips the gradients of a step by unit, except for the head's."""

    Config = AdaptiveClipConfig
    facts = Facts(
        family="gradient",
        phase=GRADIENT,
        paper="Brock et al. 2021, arXiv 2102.06171",
        neutral={"clipping": 1e9},
    )

    def __init__(self, config: AdaptiveClipConfig) -> None:
        super().__init__(config)
        self._backbone: Backbone | None = None

    def attach(self, plan: Plan) -> None:
        plan.add(MODEL, self.look, rank=LAST_EDIT)
        plan.add(GRADIENT, self.clip, rank=ADAPTIVE_CLIP_RANK)

    def look(self, backbone: Backbone) -> Backbone:
        """Remember the model whose head is left out; nothing changes."""
        self._backbone = backbone
        return backbone

    def clip(self, params: Sequence[nn.Parameter], moment: Moment) -> Tensor:
        """Clip every unit under the head, and return the norm of all gradients before."""
        head = () if self._backbone is None else self._backbone.head.parameters()
        left_out = {id(value) for value in head}
        norm = get_total_norm([value.grad for value in params if value.grad is not None])
        clip_units(
            [value for value in params if id(value) not in left_out], self.config.clipping, self.config.eps
        )
        return norm

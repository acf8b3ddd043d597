"""Gradient centralization: subtract its mean from each row of a weight matrix's gradient.

Idea: the constraint that rows of the gradient have mean zero smooths the loss and keeps weights small.

Formula: g_i ← g_i - (1/m) Σ_j g_ij for each row i of a weight with m inputs, times ``strength``.

Paper: Yong et al. 2020 (2004.01461), section 3.

When it helps: convolutional and linear layers trained from scratch.
When not: parameters of one dimension, which are left alone.

Suggested values: strength = 1.

Cost: one pass over the gradients.

Clashes: none known.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from etude.config.fields import setting
from etude.core.phases import GRADIENT
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Facts, Technique, TechniqueConfig


class CentralizeConfig(TechniqueConfig):
    """Settings of gradient centralization."""

    name: Literal["centralize"] = "centralize"
    strength: float = setting(1.0, help="share of the mean that is subtracted", ge=0.0, le=1.0)


def centralize(gradient: Tensor, strength: float = 1.0) -> Tensor:
    """Return the gradient (rows, ...) without ``strength`` times the mean of each row.

    >>> import torch
    >>> centralize(torch.tensor([[1.0, 3.0], [0.0, 4.0]]))
    tensor([[-1.,  1.],
            [-2.,  2.]])
    """
    if gradient.dim() < 2:
        return gradient
    return gradient - strength * gradient.mean(dim=tuple(range(1, gradient.dim())), keepdim=True)


class Centralize(Technique[CentralizeConfig]):
    """Changes every matrix's gradient."""

    Config = CentralizeConfig
    facts = Facts(
        family="gradient",
        phase=GRADIENT,
        paper="Yong et al. 2020, arXiv 2004.01461",
        neutral={"strength": 0.0},
    )

    def attach(self, plan: Plan) -> None:
        strength = self.config.strength
        if strength == 0.0:
            return

        def change(parameters: Sequence[nn.Parameter], moment: Moment) -> None:
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad.copy_(centralize(parameter.grad, strength))

        plan.add(GRADIENT, change)

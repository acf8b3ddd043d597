"""Activations, and the gated linear units that take two halves of what the layer before them gives.

GLU variants: Shazeer 2020, arXiv 2002.05202, section 2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn
from torch.nn import functional as F

GATES: Mapping[str, Callable[[Tensor], Tensor]] = {"reglu": F.relu, "geglu": F.gelu}


def gated(x: Tensor, gate: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the first half of the columns times what the gate lets through of the second.

    Args:
        x: (..., 2 D).
        gate: ReLU for ReGLU, GELU for GEGLU.

    Returns:
        (..., D).

    >>> import torch
    >>> gated(torch.tensor([[2.0, 3.0, 0.5, -1.0]]), F.relu)
    tensor([[1., 0.]])
    """
    value, opening = x.chunk(2, dim=-1)
    return value * gate(opening)


class Activation(nn.Module):
    """``relu``, ``gelu``, ``reglu`` or ``geglu``.

    Attributes:
        factor: 2 where the layer in front must be twice as wide as what comes out, else 1.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.factor = 2 if name in GATES else 1

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., factor D) to (..., D)."""
        if self.name in GATES:
            return gated(x, GATES[self.name])
        return F.relu(x) if self.name == "relu" else F.gelu(x)

    def extra_repr(self) -> str:
        """The name."""
        return self.name

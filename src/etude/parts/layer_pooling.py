"""Layer pooling: a learned mean of the last layers, then of their tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from etude.errors import ConfigError
from etude.parts.base import Pooler
from etude.parts.tokens import POOLINGS


class LayerPooling(Pooler):
    """The last k layers pooled over their tokens, and their softmax-weighted sum.

    Args:
        layers: k.
        tokens: ``cls``, ``mean``, ``max`` or ``last``.
    """

    name = "layer_pooling"
    all_layers: ClassVar[bool] = True
    from_zero: ClassVar[frozenset[str]] = frozenset({"weights"})

    def __init__(self, layers: int, tokens: str) -> None:
        super().__init__(layers=layers, tokens=tokens)
        self.n_layers, self.tokens = layers, tokens
        self.weights = nn.Parameter(torch.zeros(layers))

    def forward(self, layers: Sequence[Tensor], mask: Tensor) -> Tensor:
        """Pool the last k layers, in float32 under autocast too."""
        if len(layers) < self.n_layers:
            raise ConfigError(
                f"layer_pooling: the backbone gave {len(layers)} layers and layers = {self.n_layers} are "
                "pooled; lower layers"
            )
        pool = POOLINGS[self.tokens]
        # Means over tokens and over layers may change places, and pooled layers are smaller; a maximum
        # may not, so that it is taken of the mixed layers.
        with torch.autocast(layers[-1].device.type, enabled=False):
            taken = [layer.to(self.weights.dtype) for layer in layers[-self.n_layers :]]
            if self.tokens == "max":
                return pool(mix_layers(taken, self.weights), mask)
            return mix_layers([pool(layer, mask) for layer in taken], self.weights)


def mix_layers(layers: Sequence[Tensor], weights: Tensor) -> Tensor:
    """Return the sum of the layers weighted by the softmax of k numbers.

    >>> mix_layers([torch.zeros(1, 2), torch.ones(1, 2)], torch.tensor([0.0, 1.0]))
    tensor([[0.7311, 0.7311]])
    """
    return torch.einsum("k,k...->...", weights.softmax(dim=0), torch.stack(list(layers)))

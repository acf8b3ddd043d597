"""Attention pooling: a weighted mean of the tokens whose weights are learned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from etude.errors import ConfigError
from etude.parts.base import Pooler


class AttentionPooling(Pooler):
    """Softmax over the real tokens of v · tanh(W h), for each of H slices of the width.

    Args:
        width: D.
        heads: H slices of the features, each with weights of its own; divides D.
        hidden: width of the scoring layer.
    """

    name = "attention_pooling"
    from_zero: ClassVar[frozenset[str]] = frozenset({"query.weight"})

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__(width=width, heads=heads, hidden=hidden)
        if width % heads:
            raise ConfigError(
                f"attention_pooling: heads = {heads} does not divide the width {width}; choose a divisor"
            )
        self.heads = heads
        self.dense = nn.Linear(width, hidden)
        self.query = nn.Linear(hidden, heads, bias=False)

    def forward(self, layers: Sequence[Tensor], mask: Tensor) -> Tensor:
        """Pool the last layer, in float32 under autocast too."""
        hidden = layers[-1].to(self.query.weight.dtype)
        with torch.autocast(hidden.device.type, enabled=False):
            scores = self.query(torch.tanh(self.dense(hidden)))
            return pool_by_scores(hidden, scores, mask)


def pool_by_scores(hidden: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of the tokens weighted by the softmax of their scores over the real tokens.

    Args:
        hidden: (B, L, D).
        scores: (B, L, H), for each of H slices of D.
        mask: (B, L), 1 where a token is real.

    Returns:
        (B, D).

    >>> hidden, scores = torch.tensor([[[0.0], [1.0], [9.0]]]), torch.tensor([[[0.0], [1.0], [5.0]]])
    >>> pool_by_scores(hidden, scores, torch.tensor([[1, 1, 0]]))
    tensor([[0.7311]])
    """
    n, length, width = hidden.shape
    weights = scores.masked_fill(~mask.bool()[:, :, None], float("-inf")).softmax(dim=1)
    sliced = hidden.masked_fill(~mask.bool()[:, :, None], 0.0).view(n, length, scores.shape[-1], -1)
    return torch.einsum("blh,blhd->bhd", weights, sliced).reshape(n, width)

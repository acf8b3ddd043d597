"""A head whose labels are vectors: the score of a label is its likeness to the text."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from etude.parts.base import Head


class LabelEmbeddingHead(Head):
    """Scaled cosine of the projected features and each label's vector, and a bias for each label.

    Args:
        width: D, of the features.
        n_classes: C.
        dim: E, of the space in which texts and labels meet.
        scale: what cosines are multiplied by at first; it is learned.
        dropout: on the features.
    """

    name = "label_embedding"
    from_zero: ClassVar[frozenset[str]] = frozenset({"bias"})

    def __init__(self, width: int, n_classes: int, dim: int, scale: float, dropout: float) -> None:
        super().__init__(width=width, n_classes=n_classes, dim=dim, scale=scale, dropout=dropout)
        self.first_scale = scale
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Linear(width, dim)
        self.log_scale = nn.Parameter(torch.zeros(1))
        self.bias = nn.Parameter(torch.zeros(n_classes))
        self.labels = nn.Parameter(torch.zeros(n_classes, dim))

    def draw(self, seed: int) -> None:
        """Draw as every part does, and set the scale."""
        super().draw(seed)
        with torch.no_grad():
            self.log_scale.fill_(math.log(self.first_scale))

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, D) to (B, C), in float32 under autocast too."""
        with torch.autocast(features.device.type, enabled=False):
            texts = self.project(self.dropout(features.to(self.labels.dtype)))
            return scaled_cosine(texts, self.labels, self.log_scale.exp()) + self.bias


def scaled_cosine(texts: Tensor, labels: Tensor, scale: Tensor) -> Tensor:
    """Return ``scale * cos(text, label)`` of every text with every label.

    Args:
        texts: (B, E).
        labels: (C, E).
        scale: one number.

    Returns:
        (B, C).

    >>> labels = torch.tensor([[1.0, 0.0], [3.0, 4.0]])
    >>> scaled_cosine(torch.tensor([[2.0, 0.0]]), labels, torch.tensor(10.0))
    tensor([[10.,  6.]])
    """
    return scale * F.normalize(texts, dim=1) @ F.normalize(labels, dim=1).T

"""Convolutions over the tokens, each filter's largest answer, and a projection back to the width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from etude.parts.base import Pooler


class CNNHead(Pooler):
    """Filters of several widths, rectified, their maximum over time, and one linear layer.

    Args:
        width: D.
        windows: tokens under a filter, for each kind of filter.
        filters: filters of each kind.
        dropout: in front of the projection.
    """

    name = "cnn_head"

    def __init__(self, width: int, windows: list[int], filters: int, dropout: float) -> None:
        super().__init__(width=width, windows=list(windows), filters=filters, dropout=dropout)
        self.filters = nn.ModuleList(nn.Conv1d(width, filters, window) for window in windows)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(filters * len(windows), width)

    def forward(self, layers: Sequence[Tensor], mask: Tensor) -> Tensor:
        """Pool the last layer."""
        found = [max_over_time(layers[-1], mask, cast("nn.Conv1d", filters)) for filters in self.filters]
        pooled: Tensor = self.out(self.dropout(torch.cat(found, dim=1)))
        return pooled


def max_over_time(hidden: Tensor, mask: Tensor, filters: nn.Conv1d) -> Tensor:
    """Return each filter's largest rectified answer over the windows that begin at a real token.

    Args:
        hidden: (B, L, D).
        mask: (B, L), 1 where a token is real.
        filters: a one-dimensional convolution from D channels to F.

    Returns:
        (B, F).

    >>> sums = nn.Conv1d(1, 1, 2, bias=False)
    >>> _ = nn.init.ones_(sums.weight)
    >>> hidden = torch.tensor([[[1.0], [2.0], [9.0]]])
    >>> max_over_time(hidden, torch.tensor([[1, 1, 0]]), sums)
    tensor([[3.]], grad_fn=<AmaxBackward0>)
    """
    real = mask.bool()[:, :, None]
    signal = hidden.masked_fill(~real, 0.0).transpose(1, 2)
    answers = F.relu(filters(F.pad(signal, (0, filters.kernel_size[0] - 1))))
    # What is rectified is at least zero, so that windows of padding alone never win.
    return answers.masked_fill(~real.transpose(1, 2), 0.0).amax(dim=2)

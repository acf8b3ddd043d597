"""A recurrent network that reads the tokens in both directions, and a projection back to the width."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from etude.parts.base import Pooler
from etude.parts.tokens import left_aligned, pool_max, pool_mean

CELLS = {"lstm": nn.LSTM, "gru": nn.GRU}


class RNNHead(Pooler):
    """A bidirectional LSTM or GRU, its states pooled over time, and one linear layer.

    Args:
        width: D.
        cell: ``lstm`` or ``gru``.
        hidden: width of the states of each direction.
        tokens: ``last`` for the final state of each direction, ``mean`` or ``max`` over all of them.
        dropout: in front of the projection.
    """

    name = "rnn_head"

    def __init__(self, width: int, cell: str, hidden: int, tokens: str, dropout: float) -> None:
        super().__init__(width=width, cell=cell, hidden=hidden, tokens=tokens, dropout=dropout)
        self.tokens = tokens
        self.cells = CELLS[cell](width, hidden, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(2 * hidden, width)

    def forward(self, layers: Sequence[Tensor], mask: Tensor) -> Tensor:
        """Pool the last layer, in float32 under autocast too."""
        hidden = layers[-1].to(self.out.weight.dtype)
        with torch.autocast(hidden.device.type, enabled=False):
            pooled: Tensor = self.out(self.dropout(self._read(hidden, mask)))
        return pooled

    def _read(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Return the pooled states (B, 2H); padding is packed away, so that it cannot matter."""
        moved, lengths = left_aligned(hidden, mask)
        packed = pack_padded_sequence(moved, lengths.cpu(), batch_first=True, enforce_sorted=False)
        states, final = self.cells(packed)
        if self.tokens == "last":
            ends = final[0] if isinstance(final, tuple) else final
            return torch.cat([ends[0], ends[1]], dim=1)
        padded, _ = pad_packed_sequence(states, batch_first=True)
        real = torch.arange(padded.shape[1], device=lengths.device) < lengths[:, None]
        return (pool_mean if self.tokens == "mean" else pool_max)(padded, real)

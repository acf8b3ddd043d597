"""The compact vocabulary: only the embedding rows that occur in the data are trained.

Most of a vocabulary never occurs in one data set, yet an optimizer visits all of its rows in every
step: of MiniLM's 22.7 million parameters 11.7 million are rows of this table. A row that does not
occur has a zero gradient, and without weight decay no optimizer moves it; leaving it out changes
nothing but the time. It keeps its value here, in a table on the side, and is used for reading.

Shapes: V rows of the whole table, K of them trained, D columns, tokens (B, L).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F


class CompactEmbedding(nn.Module):
    """An embedding that trains the rows of some tokens and keeps the others.

    Attributes:
        weight: (K, D), the rows that train.
        kept: (K,) token ids of those rows, ascending.
        remap: (V,) row of each token id, or -1; not saved.
        table: (V, D), the values of all rows before training; not saved.
    """

    kept: Tensor
    remap: Tensor
    table: Tensor

    def __init__(self, full: nn.Embedding, token_ids: NDArray[np.int64]) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim = full.num_embeddings, full.embedding_dim
        self.padding_idx = full.padding_idx
        kept = torch.from_numpy(np.unique(token_ids))
        remap = torch.full((full.num_embeddings,), -1, dtype=torch.long)
        remap[kept] = torch.arange(len(kept))
        self._padding_row = None if full.padding_idx is None else int(remap[full.padding_idx])
        table = full.weight.detach().clone()
        self.weight = nn.Parameter(table[kept.to(table.device)], requires_grad=full.weight.requires_grad)
        self.register_buffer("kept", kept.to(table.device), persistent=False)
        self.register_buffer("remap", remap.to(table.device), persistent=False)
        self.register_buffer("table", table, persistent=False)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Map token ids (B, L) to embeddings (B, L, D).

        A token outside of the kept ones has its value of before training, which is what the whole table
        would hold. On a processor the look aside is skipped where no such token occurs; on other devices
        asking would make the host wait, so that it is always taken.
        """
        rows = self.remap[input_ids]
        if rows.device.type == "cpu" and (rows.numel() == 0 or int(rows.min()) >= 0):
            return F.embedding(rows, self.weight, self._padding_row)
        trained = F.embedding(rows.clamp_min(0), self.weight, self._padding_row)
        return torch.where((rows >= 0)[..., None], trained, F.embedding(input_ids, self.table))

    def full_weight(self) -> Tensor:
        """Return the whole table (V, D) with the rows as trained."""
        table = self.table.clone()
        table[self.kept] = self.weight.detach()
        return table

    def expand(self) -> nn.Embedding:
        """Return the ordinary embedding with the rows as trained."""
        return nn.Embedding.from_pretrained(
            self.full_weight(), freeze=not self.weight.requires_grad, padding_idx=self.padding_idx
        )

    def extra_repr(self) -> str:
        return f"{len(self.kept)} of {self.num_embeddings} rows, {self.embedding_dim}"


def can_compact(network: nn.Module, embedding: nn.Module) -> bool:
    """Whether an embedding is an ordinary one whose table nothing else in the network uses."""
    if type(embedding) is not nn.Embedding or embedding.max_norm is not None or embedding.scale_grad_by_freq:
        return False
    users = [
        module
        for module in network.modules()
        for value in module.parameters(recurse=False)
        if value is embedding.weight
    ]
    return len(users) == 1

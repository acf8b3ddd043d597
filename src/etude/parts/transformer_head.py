"""Fresh transformer layers on top of the network, and a pooling of their tokens."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from etude.errors import ConfigError
from etude.parts.base import Pooler
from etude.parts.tokens import POOLINGS


class TransformerHead(Pooler):
    """Encoder layers over the real tokens, a final norm, and a pooling.

    Args:
        width: D.
        layers: how many encoder layers.
        heads: attention heads of each; divides D.
        hidden: width of the feed-forward layers.
        tokens: ``cls``, ``mean``, ``max`` or ``last``.
        dropout: after attention and inside and after the feed-forward layer.
    """

    name = "transformer_head"

    def __init__(self, width: int, layers: int, heads: int, hidden: int, tokens: str, dropout: float) -> None:
        super().__init__(
            width=width, layers=layers, heads=heads, hidden=hidden, tokens=tokens, dropout=dropout
        )
        if width % heads:
            raise ConfigError(
                f"transformer_head: heads = {heads} does not divide the width {width}; choose a divisor"
            )
        self.tokens = tokens
        self.layers = nn.ModuleList(EncoderLayer(width, heads, hidden, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, layers: Sequence[Tensor], mask: Tensor) -> Tensor:
        """Pool the last layer."""
        hidden = layers[-1]
        for layer in self.layers:
            hidden = layer(hidden, mask)
        return POOLINGS[self.tokens](self.norm(hidden), mask)


class EncoderLayer(nn.Module):
    """One pre-norm transformer layer: h + attention(norm(h)), then h + feed-forward(norm(h))."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm, self.norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.dense, self.out = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.dropout, self.inner_dropout = nn.Dropout(dropout), nn.Dropout(dropout)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Map (B, L, D) to (B, L, D); no token looks at padding."""
        n, length, width = hidden.shape
        projected = self.query_key_value(self.attention_norm(hidden))
        query, key, value = projected.view(n, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask.bool()[:, None, None, :])
        mixed = mixed.transpose(1, 2).reshape(n, length, width)
        hidden = hidden + self.dropout(self.attention_out(mixed))
        inner = self.inner_dropout(F.gelu(self.dense(self.norm(hidden))))
        updated: Tensor = hidden + self.dropout(self.out(inner))
        return updated

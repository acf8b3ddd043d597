"""The blocks of the networks: attention with a feed-forward layer, and a residual block of two layers.

Shapes: B rows, L tokens, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from etude.backbones.dropout import DropoutKeys, KeyedDropout
from etude.backbones.tabular.activations import Activation


class Attention(nn.Module):
    """Self-attention of several heads over L tokens.

    Vaswani et al. 2017, arXiv 1706.03762, section 3.2.
    """

    def __init__(self, d: int, n_heads: int, dropout: float, keys: DropoutKeys) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.in_proj = nn.Linear(d, 3 * d)
        self.out_proj = nn.Linear(d, d)
        self.dropout = KeyedDropout(dropout, keys)
        # Each of query, key and value as a layer of its own would be drawn.
        for weight in self.in_proj.weight.detach().chunk(3):
            nn.init.kaiming_uniform_(weight, a=5**0.5)
        nn.init.zeros_(self.in_proj.bias)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, tokens: Tensor, n_asking: int | None = None) -> Tensor:
        """Map tokens (B, L, D) to what each of them, or the first ``n_asking``, finds among all."""
        batch, n_tokens, d = tokens.shape
        projected = self.in_proj(tokens).view(batch, n_tokens, 3, self.n_heads, d // self.n_heads)
        query, key, value = projected.permute(2, 0, 3, 1, 4)
        query = query if n_asking is None else query[:, :, :n_asking]
        if self.training and self.dropout.p > 0:
            scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
            found = self.dropout(scores.softmax(dim=-1)) @ value
        else:
            found = F.scaled_dot_product_attention(query, key, value)
        mixed: Tensor = self.out_proj(found.transpose(1, 2).reshape(batch, -1, d))
        return mixed


class FeedForward(nn.Module):
    """Linear, activation, dropout, linear."""

    def __init__(self, d: int, d_hidden: int, activation: str, dropout: float, keys: DropoutKeys) -> None:
        super().__init__()
        self.activation = Activation(activation)
        self.linear1 = nn.Linear(d, d_hidden * self.activation.factor)
        self.dropout = KeyedDropout(dropout, keys)
        self.linear2 = nn.Linear(d_hidden, d)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., D) to (..., D)."""
        out: Tensor = self.linear2(self.dropout(self.activation(self.linear1(x))))
        return out


class TransformerBlock(nn.Module):
    """Attention and a feed-forward layer, each added to what came in.

    With ``norm="pre"`` a norm stands in front of what is added, but for the attention of the first block
    (Gorishniy et al. 2021, arXiv 2106.11959, section 3.3); with ``"post"`` it stands behind the sum
    (Vaswani et al. 2017, section 3.1).

    Args:
        d, n_heads, d_hidden: widths and heads.
        activation: of the feed-forward layer.
        norm: ``"pre"`` or ``"post"``.
        first: whether it is the first block.
        dropout, attention_dropout, residual_dropout: rates.
        keys: what dropout draws from.
    """

    def __init__(
        self,
        d: int,
        n_heads: int,
        d_hidden: int,
        *,
        activation: str,
        norm: str,
        first: bool,
        dropout: float,
        attention_dropout: float,
        residual_dropout: float,
        keys: DropoutKeys,
    ) -> None:
        super().__init__()
        self.pre = norm == "pre"
        self.attention = Attention(d, n_heads, attention_dropout, keys)
        self.attention_norm = nn.Identity() if self.pre and first else nn.LayerNorm(d)
        self.feed_forward = FeedForward(d, d_hidden, activation, dropout, keys)
        self.feed_forward_norm = nn.LayerNorm(d)
        self.residual_dropout = KeyedDropout(residual_dropout, keys)

    def forward(self, tokens: Tensor, n_asking: int | None = None) -> Tensor:
        """Map tokens (B, L, D) to as many, or to the first ``n_asking`` alone."""
        own = tokens if n_asking is None else tokens[:, :n_asking]
        drop = self.residual_dropout
        if self.pre:
            own = own + drop(self.attention(self.attention_norm(tokens), n_asking))
            return own + drop(self.feed_forward(self.feed_forward_norm(own)))
        own = self.attention_norm(own + drop(self.attention(tokens, n_asking)))
        normed: Tensor = self.feed_forward_norm(own + drop(self.feed_forward(own)))
        return normed


class RowBatchNorm(nn.BatchNorm1d):
    """BatchNorm that takes its running statistics for a training batch of one row, which has none itself."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name that torch gave it
        if not self.training or len(input) > 1:
            return super().forward(input)
        return F.batch_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps
        )


class ResidualBlock(nn.Module):
    """``x + Dropout(Linear(Dropout(ReLU(Linear(BatchNorm(x))))))``.

    Gorishniy et al. 2021, arXiv 2106.11959, section 3.2.
    """

    def __init__(
        self,
        d: int,
        d_hidden: int,
        *,
        activation: str,
        dropout: float,
        residual_dropout: float,
        keys: DropoutKeys,
    ) -> None:
        super().__init__()
        self.norm = RowBatchNorm(d)
        self.feed_forward = FeedForward(d, d_hidden, activation, dropout, keys)
        self.residual_dropout = KeyedDropout(residual_dropout, keys)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, D) to (B, D)."""
        changed: Tensor = x + self.residual_dropout(self.feed_forward(self.norm(x)))
        return changed


class LinearBlock(nn.Module):
    """``Dropout(ReLU(Linear(x)))``: Gorishniy et al. 2021, arXiv 2106.11959, section 3.1."""

    def __init__(self, d_in: int, d: int, activation: str, dropout: float, keys: DropoutKeys) -> None:
        super().__init__()
        self.activation = Activation(activation)
        self.linear = nn.Linear(d_in, d * self.activation.factor)
        self.dropout = KeyedDropout(dropout, keys)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, D_in) to (B, D)."""
        out: Tensor = self.dropout(self.activation(self.linear(x)))
        return out


def flat(*parts: Tensor | None) -> Tensor:
    """Return the parts, (B, D) or (B, L, D) each, as one row of numbers (B, sum) for each row.

    >>> flat(torch.zeros(2, 3), torch.zeros(2, 4, 5), None).shape
    torch.Size([2, 23])
    """
    there = [part.flatten(1) for part in parts if part is not None]
    return there[0] if len(there) == 1 else torch.cat(there, dim=1)

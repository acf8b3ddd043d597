"""A prefix: learned keys and values that every layer's attention finds in front of a text's own.

The formula of attention with keys K_p and values V_p (P, d) of a layer and a head:

    softmax(q [K_p; K]ᵀ · scale) [V_p; V]

Shapes: B texts, L tokens, H heads of keys, P vectors, d width of a head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from etude.core.rng import torch_generator
from etude.parts.base import Part

SLOT = "prefix_slot"
"""The attribute by which an attention module finds its layer's part of the prefix."""


class AttentionSizes(NamedTuple):
    """What a prefix must know of a network: its layers, and the keys of one of them.

    Attributes:
        n_layers: layers with attention.
        n_heads: H, heads of keys and values, which may be fewer than those of the queries.
        d_head: d.
    """

    n_layers: int
    n_heads: int
    d_head: int


class Prefix(Part):
    """Keys and values of every layer, as free vectors.

    Attributes:
        vectors: (layers, 2, H, P, d), keys first.
    """

    name: ClassVar[str] = "prefix"

    def __init__(self, n_tokens: int, n_layers: int, n_heads: int, d_head: int) -> None:
        super().__init__(n_tokens=n_tokens, n_layers=n_layers, n_heads=n_heads, d_head=d_head)
        self.vectors = nn.Parameter(torch.empty(n_layers, 2, n_heads, n_tokens, d_head))

    def draw(self, seed: int) -> None:
        """Draw first values from N(0, 0.02²)."""
        with torch.no_grad():
            drawn = torch.randn(self.vectors.shape, generator=torch_generator(seed, self.name))
            self.vectors.copy_(0.02 * drawn)

    def of_layer(self, layer: int) -> Tensor:
        """The keys and the values of a layer: (2, H, P, d)."""
        return self.vectors[layer]

    def plain(self) -> Prefix:
        """The prefix that acts as this one does, as free vectors."""
        return self


class ReparametrisedPrefix(Prefix):
    """Keys and values that a small network makes of a table: W_l tanh(W e + b) + b_l for layer l.

    Attributes:
        table: (P, D), with D = H d.
        inner: from D to the hidden width.
        outer: for each layer, from the hidden width to its keys and values, 2 H d.
    """

    name: ClassVar[str] = "reparametrised_prefix"

    def __init__(self, n_tokens: int, n_layers: int, n_heads: int, d_head: int, hidden: int) -> None:
        Part.__init__(
            self, n_tokens=n_tokens, n_layers=n_layers, n_heads=n_heads, d_head=d_head, hidden=hidden
        )
        width = n_heads * d_head
        self.table = nn.Parameter(torch.empty(n_tokens, width))
        self.inner = nn.Linear(width, hidden)
        self.outer = nn.ModuleList(nn.Linear(hidden, 2 * width) for _ in range(n_layers))
        self._sizes = (n_tokens, 2, n_heads, d_head)

    def draw(self, seed: int) -> None:
        Part.draw(self, seed)

    def of_layer(self, layer: int) -> Tensor:
        made: Tensor = self.outer[layer](torch.tanh(self.inner(self.table)))
        return made.view(self._sizes).permute(1, 2, 0, 3)

    def plain(self) -> Prefix:
        """The vectors that the network makes; what is saved."""
        n_tokens, _, n_heads, d_head = self._sizes
        prefix = Prefix(n_tokens, len(self.outer), n_heads, d_head)
        with torch.no_grad():
            prefix.vectors.copy_(torch.stack([self.of_layer(layer) for layer in range(len(self.outer))]))
        return prefix


@dataclass(frozen=True, slots=True)
class PrefixSlot:
    """What an attention module holds: the prefix, and which layer of it is its own.

    It is no module, so that the prefix's parameters have one place in the network.
    """

    prefix: Prefix
    layer: int

    def in_front(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *, causal: bool
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Put the prefix in front of keys and values, where every token may look.

        Args:
            query: (B, H or more, L, d).
            key: (B, H, L, d).
            value: as ``key``.
            mask: broadcast to (B, H, L, L), boolean with true where a token may look, or numbers that are
                added to the scores; or None.
            causal: whether tokens look back only, where there is no mask.

        Returns:
            (B, H, P + L, d) twice, and the mask; there is one where tokens look back only.

        >>> prefix = Prefix(n_tokens=2, n_layers=1, n_heads=1, d_head=4)
        >>> x = torch.zeros(1, 1, 3, 4)
        >>> key, value, mask = PrefixSlot(prefix, 0).in_front(x, x, x, None, causal=True)
        >>> key.shape, mask.int().tolist()
        (torch.Size([1, 1, 5, 4]), [[[[1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]]])
        """
        own_key, own_value = self.prefix.of_layer(self.layer).to(key.dtype)
        n_tokens = own_key.shape[1]
        if mask is None and causal:
            sizes = (1, 1, query.shape[2], key.shape[2])  # four, since transformers counts on them
            mask = torch.ones(sizes, dtype=torch.bool, device=key.device).tril()
        if mask is not None:
            mask = mask.expand(*mask.shape[:-1], key.shape[2])
            mask = F.pad(mask, (n_tokens, 0), value=1.0 if mask.dtype == torch.bool else 0.0)
        return _joined(own_key, key), _joined(own_value, value), mask


def _joined(own: Tensor, given: Tensor) -> Tensor:
    return torch.cat([own.expand(len(given), -1, -1, -1), given], dim=2)

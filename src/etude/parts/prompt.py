"""A prompt: learned vectors that stand in front of a text's token embeddings.

Shapes: B texts, L tokens, P vectors, D width.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from etude.core.rng import torch_generator
from etude.parts.base import Part

STD = 0.02
"""Standard deviation of first values that are drawn; that of BERT's own embeddings."""


class Prompt(Part):
    """P vectors, the same in front of every text.

    Attributes:
        vectors: (P, D).
    """

    name: ClassVar[str] = "prompt"

    def __init__(self, n_tokens: int, width: int) -> None:
        super().__init__(n_tokens=n_tokens, width=width)
        self.vectors = nn.Parameter(torch.empty(n_tokens, width))

    @property
    def n_tokens(self) -> int:
        """P, how many vectors there are."""
        return len(self.vectors)

    def draw(self, seed: int) -> None:
        """Draw first values from N(0, 0.02²); their generator is the seed's and the part's own."""
        with torch.no_grad():
            drawn = torch.randn(self.vectors.shape, generator=torch_generator(seed, self.name))
            self.vectors.copy_(STD * drawn)

    def forward(self, embedding: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Put the vectors in front.

        Args:
            embedding: (B, L, D), of the tokens.
            mask: (B, L), true or 1 where a token is real.

        Returns:
            (B, P + L, D) and (B, P + L).

        >>> prompt = Prompt(n_tokens=2, width=3)
        >>> embedding, mask = prompt(torch.zeros(4, 5, 3), torch.tensor([[1, 1, 1, 0, 0]] * 4))
        >>> embedding.shape, mask[0].tolist()
        (torch.Size([4, 7, 3]), [1, 1, 1, 1, 1, 0, 0])
        """
        vectors = self.vectors.to(embedding.dtype).expand(len(embedding), -1, -1)
        real = mask.new_ones(len(mask), self.n_tokens)
        return torch.cat([vectors, embedding], dim=1), torch.cat([real, mask], dim=1)

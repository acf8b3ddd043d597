"""What a part is: an ``nn.Module`` that remembers the settings it was made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from etude.core.rng import torch_generator
from etude.errors import ConflictError


class Part(nn.Module):
    """Base of heads, poolers and label layers.

    Attributes:
        name: what a saved model calls it.
        settings: the arguments of its constructor, which must be JSON: numbers, strings, lists of them.
        from_zero: names of parameters that start at zero.
    """

    name: ClassVar[str]
    from_zero: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.settings = settings

    def draw(self, seed: int) -> None:
        """Draw first weights: matrices normal with variance 1 / fan-in, biases zero, norms' scales one.

        Each parameter has a generator of its own, of the seed and its name: the same part whatever else
        was drawn.
        """
        with torch.no_grad():
            for name, value in self.named_parameters():
                if name in self.from_zero or "bias" in name:
                    value.zero_()
                elif value.ndim > 1:
                    drawn = torch.randn(value.shape, generator=torch_generator(seed, self.name, name))
                    value.copy_(drawn / value[0].numel() ** 0.5)
                else:
                    value.fill_(1.0)


class Head(Part):
    """From features (B, D) to logits (B, C)."""

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, D) to (B, C)."""
        raise NotImplementedError(f"{type(self).__name__} lacks forward")


class LabelLayer(Part):
    """On top of a head: what labels say of each other.

    In training mode it hands the head's logits on, for the loss that belongs to it; in evaluation mode it
    gives logits whose sigmoids are the labels' probabilities.
    """

    def forward(self, logits: Tensor) -> Tensor:
        """Map a head's logits (B, C) to the labels' (B, C)."""
        with torch.autocast(logits.device.type, enabled=False):
            logits = logits if logits.dtype == torch.float64 else logits.float()
            if self.training:
                # Processes that share the work look for the parameters that a forward pass has used; the
                # loss uses these ones later, and a term of zero tells so.
                return logits + sum((0.0 * p.sum() for p in self.parameters()), start=0.0)
            return self.infer(logits)

    def refuse_rest(self) -> None:
        """Refuse to be trained through while the head is frozen and gives what it gives in prediction.

        Raises:
            ConflictError: the head is frozen.
        """
        if not self.training:
            raise ConflictError(
                f"{self.name} needs the head's logits as they are in training and the head is frozen; let "
                f"the head train, or remove {self.name}"
            )

    def infer(self, logits: Tensor) -> Tensor:
        """Map a head's logits (B, C) to logits of the labels' probabilities (B, C)."""
        raise NotImplementedError(f"{type(self).__name__} lacks infer")


class StackedHead(nn.Module):
    """A head with a label layer on top.

    Attributes:
        base: from features (B, D) to logits (B, C).
        labels: from these to the labels' logits (B, C).
    """

    def __init__(self, base: nn.Module, labels: LabelLayer) -> None:
        super().__init__()
        self.base, self.labels = base, labels

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, D) to (B, C)."""
        logits: Tensor = self.labels(self.base(features))
        return logits


class Pooler(Part):
    """From the features of tokens to those of their text; keeps the width D.

    Attributes:
        all_layers: whether it looks at every layer and not at the last alone.
    """

    all_layers: ClassVar[bool] = False

    def forward(self, layers: Sequence[Tensor], mask: Tensor) -> Tensor:
        """Map layers (B, L, D) and the mask (B, L), 1 where a token is real, to (B, D)."""
        raise NotImplementedError(f"{type(self).__name__} lacks forward")

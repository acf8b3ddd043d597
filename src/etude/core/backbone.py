"""The backbone: the network that a run trains, and the only thing that differs by modality.

A backbone is an ``nn.Module`` whose ``forward`` takes the inputs of a batch. It is cut in two
places that techniques use: after the embedding (hidden mixup, adversarial noise) and before the head
(cached features, linear probes, other heads).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

Transform = Callable[["Backbone", Tensor, Mapping[str, Tensor]], Tensor]
"""(backbone, embedding (B, L, D), inputs) -> embedding (B, L, D)."""


@dataclass(frozen=True, slots=True)
class Output:
    """What a forward pass gives: logits (B, C) and the features (B, D) under the head."""

    logits: Tensor
    features: Tensor


class Backbone(nn.Module):
    """Base class of all backbones.

    Attributes:
        capabilities: what techniques may ask for, out of ``"embed"`` (an embedding that can be
            changed), ``"tokens"`` (integer tokens with a mask token), ``"dropout"``, ``"linear_head"`` (one
            linear layer on the features).
        head: the module from features (B, D) to logits (B, C).
        fingerprint: names the inputs' format; teacher and student must agree on it.
    """

    capabilities: ClassVar[frozenset[str]] = frozenset()
    head: nn.Module
    fingerprint: str = ""

    def forward(self, inputs: Mapping[str, Tensor], transform: Transform | None = None) -> Output:
        """Map inputs to logits and features; ``transform`` changes the embedding on the way.

        Inputs that hold ``"features"`` (B, D) were computed earlier and go straight to the head.
        """
        if "features" in inputs:
            features = inputs["features"]
        elif transform is None:
            features = self.features(inputs)
        else:
            embedding = transform(self, self.embed(inputs), inputs)
            features = self.features_from(embedding, inputs)
        return Output(self.head(features), features)

    def key_randomness(self, key: int) -> None:
        """Fix the draws of the next forward pass: the same key gives the same dropout masks."""
        torch.default_generator.manual_seed(key)

    @abstractmethod
    def features(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Map inputs to the features (B, D) under the head."""

    @abstractmethod
    def embed(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Map inputs to their first continuous form, for text the token embeddings (B, L, D)."""

    @abstractmethod
    def features_from(self, embedding: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        """Map an embedding to features; ``features(x)`` equals ``features_from(embed(x), x)``."""

    @abstractmethod
    def blocks(self) -> list[tuple[str, nn.Module]]:
        """Named parts from the input to the head, which is last; together they hold every parameter."""

"""The backbone: the network that a run trains, and the only thing that differs by modality.

A backbone is an ``nn.Module`` whose ``forward`` takes the inputs of a batch. It is cut in two
places that techniques use: after the embedding (hidden mixup, adversarial noise) and before the head
(cached features, linear probes, other heads).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

Transform = Callable[["Backbone", Tensor, Mapping[str, Tensor]], Tensor]
"""(backbone, embedding (B, L, D), inputs) -> embedding (B, L, D)."""


@dataclass(frozen=True, slots=True)
class Output:
    """What a forward pass gives.

    Attributes:
        logits: (B, C).
        features: (B, D), under the head.
        hidden: features of the input's parts from every layer, (B, L, D) each or (B, D) where an input has
            no parts; empty unless the backbone's ``keep_hidden`` is on.
        again: a second pass over the same batch with other draws; the loss is the mean of both.
    """

    logits: Tensor
    features: Tensor
    hidden: tuple[Tensor, ...] = ()
    again: Output | None = None


class Backbone(nn.Module):
    """Base class of all backbones.

    Attributes:
        capabilities: what techniques may ask for, out of ``"embed"`` (an embedding that can be
            changed), ``"tokens"`` (integer tokens with a mask token), ``"dropout"``, ``"linear_head"`` (one
            linear layer on the features), ``"parts"`` (features of each part of the input, and so a choice
            of pooler), ``"prompt"`` (vectors may stand in front of the embedding), ``"prefix"`` (keys and
            values may stand in front of every layer's), ``"mixable"`` (real-valued inputs), ``"columns"``
            (inputs (B, D) whose columns mean the same in every row), ``"pixels"`` (images (B, channels,
            height, width)).
        head: the module from features (B, D) to logits (B, C).
        pooler: a pooling with weights of its own, or ``None``.
        prompt: what stands in front of the embedding, or ``None``; it belongs to the first block.
        prefix: what stands in front of the keys and values of every layer, as ``prompt``.
        keep_hidden: whether the output holds the features of every layer.
        mixable: the names of the real-valued inputs.
        n_numbers: columns of the input ``"numbers"`` that join the features behind the embedding, in front
            of the head; 0 where there is no such input, or where it is what the embedding is made of.
        fingerprint: names the inputs' format; teacher and student must agree on it.
        trained_with: the techniques of the run that trained it, where it is a saved model.
    """

    capabilities: ClassVar[frozenset[str]] = frozenset()
    head: nn.Module
    keep_hidden: bool = False
    mixable: tuple[str, ...] = ()
    n_numbers: int = 0
    fingerprint: str = ""
    trained_with: frozenset[str] = frozenset()

    def __init__(self) -> None:
        super().__init__()
        # An attribute of the class would hide the module that takes its place.
        self.pooler: nn.Module | None = None
        self.prompt: nn.Module | None = None
        self.prefix: nn.Module | None = None

    def forward(self, inputs: Mapping[str, Tensor], transform: Transform | None = None) -> Output:
        """Map inputs to logits and features; ``transform`` changes the embedding on the way.

        Inputs that hold ``"features"`` (B, D) were computed earlier and go straight to the head.
        """
        if "features" in inputs:
            return Output(self.head(inputs["features"]), inputs["features"])
        embedding = self.embed(inputs)
        if transform is not None:
            embedding = transform(self, embedding, inputs)
        layers = self.layers_from(embedding, inputs)
        features = self.pool(layers, inputs)
        return Output(self.head(features), features, layers if self.keep_hidden else ())

    def key_randomness(self, key: int) -> None:
        """Fix the draws of the next forward pass: the same key gives the same dropout masks."""
        torch.default_generator.manual_seed(key)

    def features(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Map inputs to the features (B, D) under the head."""
        return self.features_from(self.embed(inputs), inputs)

    def features_from(self, embedding: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        """Map an embedding to the features (B, D) under the head."""
        return self.pool(self.layers_from(embedding, inputs), inputs)

    def put_head(self, head: nn.Module) -> None:
        """Exchange the head, for a technique of the model phase; it maps (B, D) to (B, C)."""
        self.head = head

    def put_pooler(self, pooler: nn.Module) -> None:
        """Let a module with weights pool: ``pooler(layers, mask)`` maps layers (B, L, D) and a mask (B, L)
        to (B, D). It gets the last layer alone unless its ``all_layers`` is true.
        """  # noqa: D205 - the two sentences belong together
        self.pooler = pooler

    def put_prompt(self, prompt: nn.Module) -> None:
        """Let learned vectors stand in front of the embedding; pooler and head do not see them.

        ``prompt(embedding, mask)`` gives both with its ``n_tokens`` vectors in front.
        """
        self.prompt = prompt

    def put_prefix(self, prefix: nn.Module) -> None:
        """Let learned keys and values stand in front of those of every layer's attention."""
        self.prefix = prefix

    def save(self, folder: Path, metadata: Mapping[str, Any]) -> None:
        """Write the model into a folder, whole or not at all, with ``metadata`` as its ``etude.json``.

        Raises:
            RunError: the folder cannot be written.
        """
        raise NotImplementedError(f"{type(self).__name__} lacks save")

    @property
    def gives_all_layers(self) -> bool:
        """Whether ``layers_from`` must give every layer and not the last one alone."""
        return self.keep_hidden or bool(getattr(self.pooler, "all_layers", False))

    def replay_randomness(self) -> Callable[[], None]:
        """Remember which draw comes next; the function that is returned goes back to it."""
        state = torch.default_generator.get_state()

        def go_back() -> None:
            torch.default_generator.set_state(state)

        return go_back

    @abstractmethod
    def embed(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Map inputs to their first continuous form, for text the token embeddings (B, L, D)."""

    @abstractmethod
    def layers_from(self, embedding: Tensor, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Map an embedding to the features of every layer, or of the last alone: (B, L, D) or (B, D) each."""

    @abstractmethod
    def pool(self, layers: tuple[Tensor, ...], inputs: Mapping[str, Tensor]) -> Tensor:
        """Map the layers, of which the last one counts most, to the features (B, D) under the head."""

    @abstractmethod
    def blocks(self) -> list[tuple[str, nn.Module]]:
        """Named parts from the input to the head, which is last; together they hold every parameter."""

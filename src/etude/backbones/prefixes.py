"""Prefixes in Hugging Face networks: a slot on the attention modules of each layer.

The attention function of :mod:`etude.backbones.attention` looks for the slot. Whether a network's
attention comes by there is found out by running it on three tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from etude.backbones.blocks import find_layers
from etude.backbones.encode import encode
from etude.errors import ConflictError
from etude.parts.prefix import SLOT, AttentionSizes, Prefix, PrefixSlot


def hang_prefix(network: nn.Module, prefix: Prefix) -> None:
    """Let every layer of a network attend to its part of a prefix."""
    for i, module in _attention_modules(network):
        setattr(module, SLOT, PrefixSlot(prefix, i))


def attention_sizes(network: Any, *, decoder: bool) -> AttentionSizes:
    """Return what a prefix for a network must look like.

    Raises:
        ConflictError: some layer does not attend by our function, or layers have keys of different sizes.
    """
    found: dict[int, tuple[int, int]] = {}
    before = [(module, getattr(module, SLOT, None)) for _, module in _attention_modules(network)]
    for i, module in _attention_modules(network):
        setattr(module, SLOT, _Probe(i, found))
    training = network.training
    try:
        with torch.no_grad():
            embedding = network.eval().get_input_embeddings()(torch.arange(3)[None])
            mask = torch.ones(1, 3, dtype=torch.long)
            encode(network, embedding, mask, {}, decoder=decoder)
    finally:
        network.train(training)
        for module, slot in before:
            setattr(module, SLOT, slot)
    n_layers, sizes = len(find_layers(network)[1]), set(found.values())
    if len(found) != n_layers or len(sizes) != 1:
        raise ConflictError(
            f"a prefix needs keys of one size in every layer and {type(network).__name__} has "
            f"{n_layers} layers, {len(found)} of them with keys that can be reached, of sizes "
            f"{sorted(sizes)}; use prompt_tuning or lora"
        )
    return AttentionSizes(n_layers, *sizes.pop())


def _attention_modules(network: nn.Module) -> Iterator[tuple[int, nn.Module]]:
    """The modules that may attend, each with the number of its layer."""
    for i, layer in enumerate(find_layers(network)[1]):
        for module in layer.modules():
            if "Attention" in type(module).__name__:
                yield i, module


class _Probe:
    """Stands in a slot and notes the keys' sizes (H, d) of its layer."""

    def __init__(self, layer: int, found: dict[int, tuple[int, int]]) -> None:
        self._layer, self._found = layer, found

    def in_front(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *, causal: bool
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        if key.shape[2] == query.shape[2]:  # attention to another text's tokens has no place for a prefix
            self._found[self._layer] = (key.shape[1], key.shape[3])
        return key, value, mask

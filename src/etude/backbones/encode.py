"""Running a Hugging Face network on embeddings; shared by training and by the saved model's class."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn


def attention_mask_of(inputs: Mapping[str, Tensor]) -> Tensor:
    """The attention mask (B, L); where there is none, every token is real."""
    mask = inputs.get("attention_mask")
    return torch.ones_like(inputs["input_ids"]) if mask is None else mask


def behind_prompt(
    prompt: nn.Module | None, embedding: Tensor, mask: Tensor, inputs: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor, Mapping[str, Tensor]]:
    """Return embedding (B, L, D), mask (B, L) and inputs with the prompt's P vectors in front: P + L long.

    A prompt's vectors are of the first type of token, where a network tells types apart.
    """
    if prompt is None:
        return embedding, mask, inputs
    embedding, mask = prompt(embedding, mask)
    types = inputs.get("token_type_ids")
    if types is not None:
        front = types.new_zeros(len(types), embedding.shape[1] - types.shape[1])
        inputs = {**inputs, "token_type_ids": torch.cat([front, types], dim=1)}
    return embedding, mask, inputs


def own_tokens(hidden: Tensor, mask: Tensor) -> Tensor:
    """Return the features (B, L, D) of a text's own tokens, whose mask is (B, L), from those of P + L."""
    n_front = hidden.shape[1] - mask.shape[1]
    return hidden[:, n_front:] if n_front else hidden


def encode(
    network: Any, embedding: Tensor, mask: Tensor, inputs: Mapping[str, Tensor], *, decoder: bool
) -> Tensor:
    """Return the features of all tokens.

    Args:
        network: a transformers model without head.
        embedding: (B, L, D), what the network's word embeddings give for the tokens.
        mask: (B, L), true or 1 where a token is real.
        inputs: the batch's; ``token_type_ids`` (B, L) is used where the network takes it.
        decoder: positions are counted over real tokens, so that padding may stand on the left.

    Returns:
        (B, L, D).
    """
    arguments = _arguments(network, embedding, mask, inputs, decoder=decoder)
    hidden: Tensor = network(**arguments).last_hidden_state
    return hidden


def encode_layers(
    network: Any, embedding: Tensor, mask: Tensor, inputs: Mapping[str, Tensor], *, decoder: bool
) -> tuple[Tensor, ...]:
    """Return the features (B, L, D) after every layer; arguments as for :func:`encode`."""
    arguments = _arguments(network, embedding, mask, inputs, decoder=decoder)
    found = network(**arguments, output_hidden_states=True)
    # The first is what went into the first layer; the last may lack a final norm that the output has.
    return (*found.hidden_states[1:-1], found.last_hidden_state)


def _arguments(
    network: Any, embedding: Tensor, mask: Tensor, inputs: Mapping[str, Tensor], *, decoder: bool
) -> dict[str, Any]:
    arguments: dict[str, Any] = {"inputs_embeds": embedding, "attention_mask": mask}
    taken = _parameters(type(network).forward)
    if "token_type_ids" in inputs and "token_type_ids" in taken:
        arguments["token_type_ids"] = inputs["token_type_ids"]
    if decoder:
        arguments["use_cache"] = False
        if "position_ids" in taken:
            arguments["position_ids"] = (mask.long().cumsum(dim=1) - 1).clamp_min(0)
    return arguments


@lru_cache
def _parameters(forward: Callable[..., Any]) -> frozenset[str]:
    return frozenset(inspect.signature(forward).parameters)

"""Attention for Hugging Face models: keyed dropout on its probabilities, and the fastest exact form.

Registered with transformers under the name ``etude``. The formula, with Q, K, V (B, H, L, D/H):

    softmax(scaling * Q K^T + mask) V,  dropout on the softmax

A prefix (:mod:`etude.parts.prefix`) that hangs on the module stands in front of K and V.

On a processor it is written out where there is dropout (torch has no fused kernel for that either, and
draws its mask with a slow generator that the whole process shares), and where gradients are wanted in
bf16: forward and backward through the fused kernel take 1.8 to 11 times as long there (measured with
torch 2.13 and MiniLM's 12 heads; 16, 64 and 256 tokens). Everywhere else torch's fused attention is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from etude.backbones.dropout import DropoutKeys, keyed_dropout
from etude.parts.prefix import SLOT

NAME = "etude"


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attend; the arguments are those of transformers' attention functions.

    Args:
        module: the attention layer.
        query: (B, H, L, D/H).
        key: (B, H or fewer, L, D/H).
        value: as ``key``.
        attention_mask: boolean, broadcast to (B, H, L, L), true where a token may look; or None.
        dropout: drop probability of the softmax; 0 in evaluation.
        scaling: factor on the scores, by default 1 / sqrt(D/H).
        is_causal: whether tokens look back only, where there is no mask.
        kwargs: what only other attention functions use.

    Returns:
        (B, L, H, D/H), and None in the place of the probabilities.
    """
    slot = getattr(module, SLOT, None)
    if slot is not None:
        causal = getattr(module, "is_causal", False) if is_causal is None else is_causal
        key, value, attention_mask = slot.in_front(query, key, value, attention_mask, causal=bool(causal))
        is_causal = False  # the mask says so, if it is
    keys = getattr(module, "dropout_keys", None)
    if not _write_out(query, value, dropout, keys, kwargs):
        output: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask,
            dropout=dropout, scaling=scaling, is_causal=is_causal, **kwargs,
        )  # fmt: skip
        return output
    groups = getattr(module, "num_key_value_groups", 1)
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    if attention_mask is None and (getattr(module, "is_causal", False) if is_causal is None else is_causal):
        attention_mask = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool).tril()
    scores = (query * (query.shape[-1] ** -0.5 if scaling is None else scaling)) @ key.transpose(2, 3)
    if attention_mask is not None:
        scores = scores + _additive(attention_mask, scores.dtype)
    weights = scores.softmax(dim=-1)
    if dropout > 0.0 and keys is not None:
        weights = keyed_dropout(weights, dropout, keys)
    return (weights.to(value.dtype) @ value).transpose(1, 2).contiguous(), None


def _write_out(
    query: Tensor, value: Tensor, dropout: float, keys: DropoutKeys | None, others: Mapping[str, Any]
) -> bool:
    """Whether the formula is written out; see the module."""
    unusual = any(others.get(name) is not None for name in ("position_bias", "softcap", "s_aux", "cache"))
    if query.device.type != "cpu" or unusual:
        return False
    if dropout > 0.0:
        return keys is not None and keys.ready
    return torch.is_grad_enabled() and query.requires_grad and value.dtype == torch.bfloat16


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """The mask as numbers to add to the scores: 0, or the lowest number of the type."""
    if mask.dtype != torch.bool:
        return mask.to(dtype)
    return torch.zeros(mask.shape, dtype=dtype).masked_fill_(~mask, torch.finfo(dtype).min)


def use_keyed_attention(network: PreTrainedModel, keys: DropoutKeys) -> bool:
    """Let a network attend with our function, if it takes torch's fused attention; say whether it does."""
    if network.config._attn_implementation not in ("sdpa", NAME):
        return False
    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    network.set_attn_implementation(NAME)
    for module in network.modules():
        if "Attention" in type(module).__name__:
            module.dropout_keys = keys
    return True

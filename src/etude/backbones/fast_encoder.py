"""The fast way through encoders of BERT's build: each layer one autograd step in bfloat16.

A network takes it where all of these hold, and transformers' own way otherwise, with the same result
to rounding: it is a BERT, RoBERTa, XLM-R or CamemBERT; it computes in bfloat16 by autocast on a
processor; every module in its layers is as its class made it, without hooks, adapters or
parametrisations. The network's modules and parameters stay where they are; nothing is copied between
steps, so that whoever changes a weight, in whatever way, is heeded by the next pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules import module as torch_module

from etude.backbones.attention import NAME as ATTENTION
from etude.backbones.dropout import RESOLUTION, DropoutKeys, keyed_mask
from etude.backbones.encoder_layer import Drop, Shape, Weights, encoder_layer
from etude.backbones.kept_memory import keep_freed_memory

TILE = 16
"""Rows are filled up to a multiple of this, the rows of an AMX tile: a product of 136 rows took 1.4 times as
long as one of 144 (oneDNN 3.12, two threads)."""

FAMILIES = ("Bert", "Roberta", "XLMRoberta", "Camembert")


def encode_fast(
    network: Any, embedding: Tensor, mask: Tensor, inputs: Mapping[str, Tensor], keys: DropoutKeys
) -> Tensor | None:
    """Return the features (B, L, D) of all tokens, or None where the network must go its own way.

    Args:
        network: a transformers model without head.
        embedding: (B, L, D), what the network's word embeddings give for the tokens.
        mask: (B, L), true or 1 where a token is real.
        inputs: the batch's; ``token_type_ids`` (B, L) is used.
        keys: what dropout draws from.
    """
    if not (_in_bfloat16(embedding) and keys.ready and follows_bert(network)):
        return None
    x = network.embeddings(inputs_embeds=embedding, token_type_ids=inputs.get("token_type_ids"))
    if x.dtype != torch.float32:
        return None
    keep_freed_memory()
    n_texts, n_tokens, width = x.shape
    n_rows = n_texts * n_tokens
    attention = network.encoder.layer[0].attention.self
    n_heads = attention.num_attention_heads
    hidden_tokens = torch.zeros(mask.shape, dtype=x.dtype).masked_fill_(mask == 0, torch.finfo(x.dtype).min)
    scores_mask = hidden_tokens[:, None, :].repeat_interleave(n_heads, dim=0)
    rows = F.pad(x.reshape(n_rows, width), (0, 0, 0, -n_rows % TILE))
    with torch.autocast("cpu", enabled=False):
        for layer in network.encoder.layer:
            norms = layer.attention.output.LayerNorm, layer.output.LayerNorm
            shape = Shape(n_texts, n_tokens, n_heads, width, (norms[0].eps, norms[1].eps), torch.bfloat16)
            drops = _draw(layer, shape, len(rows), keys)
            rows = encoder_layer(rows, scores_mask, drops, shape, layer_weights(layer))
    return rows[:n_rows].view(n_texts, n_tokens, width)


def _in_bfloat16(x: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and torch.is_grad_enabled()
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
    )


def _draw(
    layer: Any, shape: Shape, n_rows: int, keys: DropoutKeys
) -> tuple[Drop | None, Drop | None, Drop | None]:
    """Draw the masks of a layer, in the order in which its modules would."""
    attention, length = layer.attention.self, shape.n_tokens
    softmax: Drop | None = None
    if attention.training and _drops(attention.dropout.p):
        sizes = (shape.n_texts * shape.n_heads, length, length)
        softmax = Drop(*keyed_mask(sizes, attention.dropout.p, keys, torch.float32))
    rest: list[Drop | None] = []
    for dropout in (layer.attention.output.dropout, layer.output.dropout):
        if not (dropout.training and _drops(dropout.p)):
            rest.append(None)
            continue
        keep, scale = keyed_mask((shape.n_texts * length, shape.width), dropout.p, keys, torch.float32)
        rest.append(Drop(F.pad(keep, (0, 0, 0, n_rows - len(keep))), scale))
    return softmax, rest[0], rest[1]


def _drops(p: float) -> bool:
    return round(p * RESOLUTION) > 0


def layer_weights(layer: Any) -> Weights:
    """Return the parameters of a layer, in the order that the function wants them."""
    attention, output = layer.attention.self, layer.attention.output
    inner, last = layer.intermediate.dense, layer.output
    return Weights(
        attention.query.weight, attention.query.bias, attention.key.weight, attention.key.bias,
        attention.value.weight, attention.value.bias, output.dense.weight, output.dense.bias,
        output.LayerNorm.weight, output.LayerNorm.bias, inner.weight, inner.bias,
        last.dense.weight, last.dense.bias, last.LayerNorm.weight, last.LayerNorm.bias,
    )  # fmt: skip


def follows_bert(network: Any) -> bool:
    """Whether a network is an encoder of BERT's build, every layer as its class made it, without hooks."""
    family = type(network).__name__.removesuffix("Model")
    if family not in FAMILIES or not type(network).__module__.startswith("transformers.models."):
        return False
    config = network.config
    if config.is_decoder or config.add_cross_attention or config.hidden_act != "gelu":
        return False
    if any(_GLOBAL_HOOKS) or _is_changed(network) or _is_changed(network.encoder):
        return False
    return all(_is_plain(layer, family) for layer in network.encoder.layer)


_GLOBAL_HOOKS = (torch_module._global_forward_hooks, torch_module._global_forward_pre_hooks,
                 torch_module._global_backward_hooks, torch_module._global_backward_pre_hooks)  # fmt: skip


def _is_plain(layer: Any, family: str) -> bool:
    """Whether a layer is made of the modules that its class puts there, nothing more, and all in float32."""
    names = {
        "": f"{family}Layer", "attention": f"{family}Attention", "attention.self": f"{family}SelfAttention",
        "attention.self.query": "Linear", "attention.self.key": "Linear", "attention.self.value": "Linear",
        "attention.self.dropout": "KeyedDropout", "attention.output": f"{family}SelfOutput",
        "attention.output.dense": "Linear", "attention.output.LayerNorm": "LayerNorm",
        "attention.output.dropout": "KeyedDropout", "intermediate": f"{family}Intermediate",
        "intermediate.dense": "Linear", "intermediate.intermediate_act_fn": "GELUActivation",
        "output": f"{family}Output", "output.dense": "Linear", "output.LayerNorm": "LayerNorm",
        "output.dropout": "KeyedDropout",
    }  # fmt: skip
    found = dict(layer.named_modules())
    if {name: type(module).__name__ for name, module in found.items()} != names:
        return False
    if any(map(_is_changed, found.values())) or getattr(layer, "gradient_checkpointing", False):
        return False
    attention = layer.attention.self
    width = layer.output.dense.out_features
    if attention.config._attn_implementation != ATTENTION or attention.all_head_size != width:
        return False
    return all(weight.dtype == torch.float32 for weight in layer_weights(layer))


def _is_changed(module: nn.Module) -> bool:
    """Whether a module has hooks of its own or another ``forward`` than its class."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or "forward" in module.__dict__
    )

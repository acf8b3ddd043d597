"""Writing a text backbone in Hugging Face layout, whole or not at all.

With the architecture's own pooling and head the result is a plain transformers checkpoint; otherwise it
is one of :class:`etude.backbones.automodel.EtudeForSequenceClassification`. The live model is only read.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

from etude.backbones.automodel import EtudeForSequenceClassification, EtudeTextConfig
from etude.backbones.heads import LinearHead, MLPHead, NativeHead
from etude.backbones.model_folder import write_model_folder
from etude.backbones.saved_heads import described, kind_of_head, saved_head
from etude.backbones.vocabulary import CompactEmbedding
from etude.parts import StackedHead
from etude.parts.prefix import Prefix
from etude.parts.quantised_linear import QuantisedLinear

if TYPE_CHECKING:
    from etude.backbones.model import TextBackbone


def save_text_backbone(backbone: TextBackbone, folder: Path, metadata: Mapping[str, Any]) -> None:
    """Write weights, configuration, tokenizer and ``etude.json``; a folder of that name is replaced.

    Raises:
        RunError: the folder cannot be written, or the head has no form that can be saved.
    """
    config, state = saved_form(backbone)

    def add(partial: Path) -> None:
        config.save_pretrained(partial)
        backbone.tokenizer.save_pretrained(partial)

    write_model_folder(folder, state, metadata, add)


def saved_form(backbone: TextBackbone) -> tuple[Any, dict[str, Tensor]]:
    """Return the configuration and the tensors to save.

    Raises:
        RunError: the head has no form that can be saved.
    """
    head = backbone.head
    # The architecture's own class knows no other pooler, no labels on top of its head, and no prompt.
    native = backbone.pooling == "native" and backbone.pooler is None and not backbone.in_front
    if native and isinstance(head, NativeHead):
        form = _native_form(backbone, dict(head.classifier.state_dict()))
    elif native and isinstance(head, LinearHead) and head.out.bias is None:
        form = _native_form(backbone, {"score.weight": head.out.weight})
    else:
        form = _own_form(backbone)
    config, prefix, head_state = form
    config.dtype = torch.float32
    tensors = {f"{prefix}.{name}": value for name, value in network_state(backbone.network).items()}
    return config, tensors | head_state


def _own_form(backbone: TextBackbone) -> tuple[Any, str, dict[str, Tensor]]:
    network = backbone.network.config
    stacked = backbone.head
    labels = stacked.labels if isinstance(stacked, StackedHead) else None
    head = saved_head(stacked.base if isinstance(stacked, StackedHead) else stacked)
    prefix = backbone.prefix.plain() if isinstance(backbone.prefix, Prefix) else backbone.prefix
    config = EtudeTextConfig(
        network=_network_settings(network),
        pooling=backbone.pooled_by,
        head=kind_of_head(head),
        head_dropout=float(head.dropout.p) if isinstance(head, (LinearHead, MLPHead)) else 0.0,
        head_bias=not isinstance(head, LinearHead) or head.out.bias is not None,
        pooler=None if backbone.pooler is None else described(backbone.pooler),
        label_layer=None if labels is None else described(labels),
        prompt=None if backbone.prompt is None else described(backbone.prompt),
        prefix=None if prefix is None else described(prefix),
        decoder=backbone.decoder,
        numeric=None if backbone.scale is None else backbone.scale.to_json(),
        id2label=dict(network.id2label),
        label2id=dict(network.label2id),
        problem_type=network.problem_type,
        pad_token_id=network.pad_token_id,
        architectures=[EtudeForSequenceClassification.__name__],
    )
    state = _named("head" if labels is None else "head.base", head) | _named("head.labels", labels)
    for name, module in (("pooler", backbone.pooler), ("prompt", backbone.prompt), ("prefix", prefix)):
        state |= _named(name, module)
    return config, "network", state


def _named(prefix: str, module: nn.Module | None) -> dict[str, Tensor]:
    state = {} if module is None else module.state_dict()
    return {f"{prefix}.{name}": value for name, value in state.items()}


def _network_settings(network: Any) -> dict[str, Any]:
    """The network's own configuration, without what the whole model's says."""
    config = copy.deepcopy(network)
    settings: dict[str, Any] = config.to_diff_dict()
    for name in _OF_THE_WHOLE:
        settings.pop(name, None)
    return settings | {"model_type": config.model_type}


_OF_THE_WHOLE = ("id2label", "label2id", "problem_type", "architectures", "transformers_version")


def _native_form(backbone: TextBackbone, head_state: dict[str, Tensor]) -> tuple[Any, str, dict[str, Tensor]]:
    config = copy.deepcopy(backbone.network.config)
    architecture = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[type(config)]
    config.architectures = [architecture.__name__]
    return config, architecture.base_model_prefix, head_state


def network_state(network: nn.Module) -> dict[str, Tensor]:
    """The network's tensors by name, a compact vocabulary as the whole table."""
    state = dict(network.state_dict())
    for name, module in network.named_modules():
        if isinstance(module, CompactEmbedding):
            state[f"{name}.weight"] = module.full_weight()
        elif hasattr(module, "get_base_layer") and hasattr(module, "get_delta_weight"):
            _fold_adapter(state, name, module)
        elif isinstance(module, QuantisedLinear) and f"{name}.packed" in state:
            _put_plain(state, name, module.weight, module.bias)
    return state


def _fold_adapter(state: dict[str, Tensor], name: str, layer: Any) -> None:
    """Put a plain layer in the place of one that peft gave an adapter: W + (alpha / r) B A."""
    base = layer.get_base_layer()
    weight = base.weight + sum(layer.get_delta_weight(a) for a in layer.active_adapters)
    _put_plain(state, name, weight, base.bias)


def _put_plain(state: dict[str, Tensor], name: str, weight: Tensor, bias: Tensor | None) -> None:
    """Replace whatever a module holds by the tensors of an ordinary linear layer."""
    for inner in [other for other in state if other.startswith(f"{name}.")]:
        del state[inner]
    state[f"{name}.weight"] = weight
    if bias is not None:
        state[f"{name}.bias"] = bias

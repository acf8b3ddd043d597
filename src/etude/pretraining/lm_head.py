"""The masked-LM head of an architecture, cut off its network, and saved together with it again.

It is transformers' own masked-LM model with the network under it taken out. What the checkpoint has of it is
used, the rest is drawn; the last layer shares its weights with the embeddings, as in most architectures.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModelForMaskedLM

from etude.backbones.automodel import MODEL_TYPE
from etude.backbones.heads import NativeHead, draw_fresh
from etude.backbones.hub import Source, load_config, opening
from etude.backbones.model import TextBackbone
from etude.backbones.model_folder import write_model_folder
from etude.backbones.saving import network_state
from etude.errors import ConfigError

POOLING = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token",
           "max": "pooling_mode_max_tokens", "last": "pooling_mode_lasttoken"}  # fmt: skip


class MaskedLMHead(NativeHead):
    """From tokens' features (M, D) to logits over the vocabulary (M, V)."""

    def forward(self, features: Tensor) -> Tensor:
        """Map (M, D) to (M, V): each token is a text of its own up here."""
        return super().forward(features)[:, 0]


class TiedDecoder(nn.Module):
    """The last layer: its weights are the embedding's, which own and train them."""

    def __init__(self, embedding: nn.Embedding, bias: nn.Parameter | None) -> None:
        super().__init__()
        self._embedding = (embedding,)  # in a tuple, so that the weights are not counted twice
        self.bias = bias

    def forward(self, features: Tensor) -> Tensor:
        """Map (..., D) to (..., V)."""
        return F.linear(features, self._embedding[0].weight, self.bias)


def load_lm_head(backbone: TextBackbone, seed: int) -> MaskedLMHead:
    """Return the architecture's masked-LM head, with the weights of the checkpoint where it has some.

    Args:
        backbone: whose network it stands on, and whose embeddings it shares.
        seed: what weights depend on that the checkpoint lacks.

    Raises:
        ConfigError: transformers has no masked-LM model of this architecture, or its head cannot be cut off.
    """
    network = backbone.network
    model, missing = _open(network)
    before = {name for name, _ in model.base_model.named_parameters()}
    head = MaskedLMHead(model)
    std = float(getattr(network.config, "initializer_range", 0.02))
    own = [(name, value) for name, value in model.named_parameters() if name.partition(".")[2] not in before]
    draw_fresh([(name, value) for name, value in own if name in missing], seed, std)
    _tie(model, network)
    _check(head, network)
    return head


def _open(network: Any) -> tuple[Any, set[str]]:
    """The masked-LM model, and the names of the parameters that the checkpoint lacks."""
    settings = copy.deepcopy(network.config)
    source = Source(str(settings.name_or_path or ""))
    try:
        with torch.random.fork_rng(devices=[]):
            if _is_plain(source):
                with opening(source):
                    model, report = AutoModelForMaskedLM.from_pretrained(
                        source.path, config=settings, dtype=torch.float32, output_loading_info=True
                    )
                return model, set(report["missing_keys"])
            model = AutoModelForMaskedLM.from_config(settings)
            return model, {name for name, _ in model.named_parameters()}
    except (ConfigError, ValueError):
        raise ConfigError(
            f"transformers has no masked-LM model on {type(network).__name__}; pre-train another encoder, as "
            "BERT or MiniLM"
        ) from None


def _is_plain(source: Source) -> bool:
    """Whether a checkpoint is the architecture's own, and none of ours around it."""
    if not source.path:
        return False
    try:
        return bool(load_config(source).model_type != MODEL_TYPE)
    except ConfigError:
        return False


def _tie(model: Any, network: Any) -> None:
    """Let the last layer take the network's embeddings as its weights, where they fit."""
    embedding, last = network.get_input_embeddings(), model.get_output_embeddings()
    if isinstance(last, nn.Linear) and last.weight.shape == embedding.weight.shape:
        model.set_output_embeddings(TiedDecoder(embedding, last.bias))


def _check(head: MaskedLMHead, network: Any) -> None:
    """Raise :class:`ConfigError` where the head does not map a token's features to the vocabulary."""
    width = network.config.hidden_size
    try:
        with torch.no_grad():
            found = head.eval()(torch.zeros(2, width))
    except (RuntimeError, TypeError, AttributeError, ValueError):
        found = torch.zeros(0, 0)
    head.train()
    if found.shape != (2, network.config.vocab_size):
        raise ConfigError(
            f"the masked-LM head of {type(head.classifier).__name__} does not stand on its tokens' features "
            "alone; pre-train another encoder, as BERT or MiniLM"
        )


def pooler_of(head: nn.Module) -> dict[str, Tensor]:
    """The tensors of the network's own pooler, which an architecture's classifier has taken along."""
    if not isinstance(head, NativeHead):
        return {}
    prefix = f"{head.classifier.base_model_prefix}."
    return {name: value for name, value in head.classifier.state_dict().items() if name.startswith(prefix)}


def save_masked_lm(
    backbone: TextBackbone,
    head: MaskedLMHead,
    pooler: Mapping[str, Tensor],
    folder: Path,
    metadata: Mapping[str, Any],
) -> None:
    """Write network, masked-LM head and tokenizer as a plain transformers checkpoint.

    Args:
        backbone: the network, its tokenizer and its pooling.
        head: what stands on it.
        pooler: tensors of the network's own pooler, which did not take part.
        folder: a folder of that name is replaced.
        metadata: what ``etude.json`` says.

    Raises:
        RunError: the folder cannot be written.
    """
    model = head.classifier
    config = copy.deepcopy(backbone.network.config)
    config.architectures, config.dtype = [type(model).__name__], torch.float32
    prefix = model.base_model_prefix
    tensors = {f"{prefix}.{name}": value for name, value in network_state(backbone.network).items()}
    tensors |= {
        name: value for name, value in model.state_dict().items() if not name.startswith(f"{prefix}.")
    }

    def add(partial: Path) -> None:
        config.save_pretrained(partial)
        backbone.tokenizer.save_pretrained(partial)
        # So that a later run pools as this checkpoint was pooled, and need not be told.
        if backbone.pooling in POOLING:
            flags = {key: backbone.pooling == name for name, key in POOLING.items()}
            (partial / "1_Pooling").mkdir()
            said = json.dumps({"word_embedding_dimension": config.hidden_size, **flags}, indent=2)
            (partial / "1_Pooling" / "config.json").write_text(said + "\n", encoding="utf-8")

    write_model_folder(folder, tensors | dict(pooler), metadata, add)

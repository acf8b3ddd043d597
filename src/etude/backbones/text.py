"""Opening text backbones: from a checkpoint with a fresh head, or from a model that a run has saved."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from etude.backbones.automodel import (
    MODEL_TYPE,
    EtudeForSequenceClassification,
    register_with_transformers,
    without_pooler,
)
from etude.backbones.blocks import keep_layers
from etude.backbones.dropout import DropoutKeys, dropout_layers
from etude.backbones.heads import LinearHead, NativeHead, draw_fresh, make_head
from etude.backbones.hub import (
    Source,
    is_decoder,
    load_config,
    load_network,
    load_tokenizer,
    locate,
    opening,
    pooling_settings,
    quiet,
)
from etude.backbones.model import TextBackbone
from etude.backbones.model_folder import METADATA
from etude.backbones.pooling import POOLINGS, pooling_of_sentence_transformer
from etude.backbones.positions import n_positions
from etude.config.numbers import NumberScale
from etude.config.run import BackboneConfig
from etude.core.task import Task
from etude.errors import ConfigError, RunError

__all__ = [
    "TextBackbone",
    "load_saved",
    "load_saved_tokenizer",
    "load_text_backbone",
    "load_tokenizer",
]

register_with_transformers()


@dataclass(frozen=True, slots=True)
class _Parts:
    """What a checkpoint gives, before it becomes a backbone."""

    network: Any
    head: nn.Module
    pooling: str
    pooled_by: str
    keys: DropoutKeys


def load_text_backbone(
    config: BackboneConfig,
    task: Task,
    *,
    seed: int,
    tokenizer: Any = None,
    scale: NumberScale | None = None,
) -> TextBackbone:
    """Open a checkpoint and put a fresh head for the task on it.

    Args:
        config: which checkpoint, and how it is used.
        task: names the labels.
        seed: what the head's first weights depend on, and nothing else.
        tokenizer: what :func:`load_tokenizer` gave for the same config, to save opening it twice.
        scale: of the numbers that join the text's features in front of the head, if there are any.

    Raises:
        ConfigError: there is no such checkpoint, or the settings do not fit it.
    """
    source = locate(config)
    tokenizer = load_tokenizer(config) if tokenizer is None else tokenizer
    prompt = prefix = None
    settings = load_config(source)
    pooling = choose_pooling(config, source, settings)
    if scale is not None and pooling == "native":
        pooling = _pooling_beside_numbers(config, settings)
    _check_length(config, settings)
    if pooling == "native" and config.head != "linear":
        raise ConfigError(
            f"backbone.pooling = 'native' brings the architecture's own head and backbone.head is "
            f"'{config.head}'; remove backbone.head or choose another pooling"
        )
    if settings.model_type == MODEL_TYPE:
        saved = load_saved(Path(source.path))
        network: Any = saved.network
        settings = network.config
        missing: list[str] = []
        prompt, prefix = saved.prompt, saved.prefix
    else:
        _name_labels(settings, task)
        _set_dropout(settings, config.dropout)
        network, missing = load_network(source, settings, classifier=pooling == "native")
    keys = DropoutKeys()
    if pooling == "native":
        parts = _native_parts(network, config.head_dropout, keys)
    else:
        without_pooler(network)
        width = settings.hidden_size + (0 if scale is None else len(scale.columns))
        head = make_head(config.head, width, task.n_classes, config.head_dropout, keys)
        parts = _Parts(network, head, pooling, pooling, keys)
    _draw_fresh(parts, missing, config.path, seed)
    if config.layers is not None:
        keep_layers(parts.network, config.layers)
    _name_labels(parts.network.config, task)
    return _put_in_front(_assemble(parts, tokenizer, scale), prompt, prefix).train()


def load_saved(folder: Path) -> TextBackbone:
    """Open a model that :meth:`TextBackbone.save` has written.

    Raises:
        RunError: there is none, or it is damaged.
    """
    if not (folder / "config.json").is_file():
        raise RunError(f"{folder} holds no saved model (no config.json); give a run's folder or its model/")
    source = Source(str(folder))
    try:
        settings = load_config(source)
        with opening(source):
            model, report = AutoModelForSequenceClassification.from_pretrained(
                folder, dtype=torch.float32, output_loading_info=True
            )
    except (ConfigError, RuntimeError, KeyError, TypeError) as error:
        raise RunError(f"the saved model in {folder} cannot be opened: {error}") from None
    if report["missing_keys"]:
        raise RunError(
            f"the saved model in {folder} lacks {len(report['missing_keys'])} tensors, first "
            f"{min(report['missing_keys'])}; train it again, or copy the whole folder"
        )
    keys = DropoutKeys()
    if isinstance(model, EtudeForSequenceClassification):
        parts = _Parts(model.network, model.head, settings.pooling, settings.pooling, keys)
        parts.network.config.id2label, parts.network.config.label2id = settings.id2label, settings.label2id
        parts.network.config.problem_type = settings.problem_type
    else:
        parts = _native_parts(model, None, keys)
    scale = settings.scale() if isinstance(model, EtudeForSequenceClassification) else None
    backbone = _assemble(parts, load_saved_tokenizer(folder), scale)
    if isinstance(model, EtudeForSequenceClassification) and model.pooler is not None:
        backbone.put_pooler(model.pooler)
    if isinstance(model, EtudeForSequenceClassification):
        _put_in_front(backbone, model.prompt, model.prefix)
    backbone.trained_with = techniques_of(folder)
    return backbone.eval()


def _put_in_front(backbone: TextBackbone, prompt: nn.Module | None, prefix: nn.Module | None) -> TextBackbone:
    """Give a backbone the prompt and the prefix that its network was trained with, if any."""
    if prompt is not None:
        backbone.put_prompt(prompt)
    if prefix is not None:
        backbone.put_prefix(prefix)
    return backbone


def techniques_of(folder: Path) -> frozenset[str]:
    """Return the techniques that trained a saved model; none where its ``etude.json`` does not tell."""
    path = folder / METADATA
    if not path.is_file():
        return frozenset()
    try:
        return frozenset(json.loads(path.read_text("utf-8")).get("techniques", ()))
    except (ValueError, AttributeError, TypeError):
        raise RunError(f"{path} is damaged; train the model again, or copy the whole folder") from None


def load_saved_tokenizer(folder: Path) -> Any:
    """Open the tokenizer of a saved model.

    Raises:
        RunError: there is none.
    """
    try:
        with quiet():
            return AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise RunError(f"the tokenizer in {folder} cannot be opened: {error}") from None


def choose_pooling(config: BackboneConfig, source: Source, settings: Any) -> str:
    """Return the pooling to use; ``auto`` follows the checkpoint.

    A sentence-transformers checkpoint or a model of ours names its pooling, decoders give the last token,
    and everything else is pooled as its architecture does.
    """
    if config.pooling != "auto":
        if config.pooling == "native" and settings.model_type == MODEL_TYPE:
            raise ConfigError(
                f"backbone.path = '{config.path}' was saved with pooling '{settings.pooling}', so "
                "backbone.pooling = 'native' has nothing to follow; use 'auto'"
            )
        return config.pooling
    if settings.model_type == MODEL_TYPE:
        return str(settings.pooling)
    named = pooling_settings(source)
    if named is not None:
        return pooling_of_sentence_transformer(named)
    return "last" if is_decoder(settings) else "native"


def _pooling_beside_numbers(config: BackboneConfig, settings: Any) -> str:
    """The pooling in the place of the architecture's own, whose head has no room for numbers.

    Raises:
        ConfigError: the config insists on it.
    """
    if config.pooling == "native":
        raise ConfigError(
            "backbone.pooling = 'native' brings the architecture's own head, which takes no numbers beside "
            "the text; use another pooling, as 'cls' or 'mean', or remove data.numeric"
        )
    return str(getattr(settings, "classifier_pooling", "cls"))


def _assemble(parts: _Parts, tokenizer: Any, scale: NumberScale | None) -> TextBackbone:
    return TextBackbone(
        parts.network,
        parts.head,
        tokenizer,
        parts.keys,
        pooling=parts.pooling,
        pooled_by=parts.pooled_by,
        decoder=is_decoder(parts.network.config),
        scale=scale,
    )


def _native_parts(classifier: Any, dropout: float | None, keys: DropoutKeys) -> _Parts:
    """Cut transformers' own classifier into network and head, and check that nothing was lost.

    Raises:
        ConfigError: this architecture's head cannot be cut off.
    """
    settings, network = classifier.config, classifier.base_model
    if is_decoder(settings):
        if not isinstance(getattr(classifier, "score", None), nn.Linear):
            raise ConfigError(_UNKNOWN_HEAD.format(type(classifier).__name__))
        rate = 0.1 if dropout is None else dropout
        score = LinearHead(settings.hidden_size, settings.num_labels, rate, keys, bias=False)
        score.out.weight = classifier.score.weight
        return _Parts(network, score, "native", "last", keys)
    # ModernBERT and its kin pool as their configuration says; all others look at the first token.
    pooled_by = str(getattr(settings, "classifier_pooling", "cls"))
    ids = torch.arange(1, 7)[None] % settings.vocab_size
    mask = torch.ones_like(ids)
    with torch.no_grad():
        expected = classifier.eval()(input_ids=ids, attention_mask=mask).logits
        head = NativeHead(classifier)
        hidden = network(input_ids=ids, attention_mask=mask).last_hidden_state
        found = head.eval()(POOLINGS[pooled_by](hidden, mask))
    if found.shape != expected.shape or not torch.allclose(found, expected, rtol=1e-4, atol=1e-5):
        raise ConfigError(_UNKNOWN_HEAD.format(type(classifier).__name__))
    if dropout is not None:
        for layer in dropout_layers(head):
            layer.p = dropout
    return _Parts(network, head, "native", pooled_by, keys)


_UNKNOWN_HEAD = (
    "backbone.pooling = 'native' cannot follow {}, whose head does not stand on one pooled token; choose "
    "'cls', 'mean', 'max' or 'last'"
)


def _draw_fresh(parts: _Parts, missing: list[str], path: str, seed: int) -> None:
    """Draw the head's first weights; a native head keeps what the checkpoint has under its last layer.

    Raises:
        ConfigError: the checkpoint lacks parameters under the head.
    """
    under = {name for name, _ in parts.network.named_parameters()}
    lost = [name for name in missing if name in under or name.partition(".")[2] in under]
    if lost:
        raise ConfigError(
            f"backbone.path = '{path}' lacks {len(lost)} of the network's tensors, first {lost[0]}; "
            "download it again, or take a checkpoint of this architecture"
        )
    std = float(getattr(parts.network.config, "initializer_range", 0.02))
    if not isinstance(parts.head, NativeHead):
        draw_fresh(parts.head.named_parameters(), seed, std)
        return
    classifier = parts.head.classifier
    last = [name for name, module in classifier.named_modules() if isinstance(module, nn.Linear)][-1]
    fresh = {*missing, f"{last}.weight", f"{last}.bias"}
    draw_fresh(((name, p) for name, p in classifier.named_parameters() if name in fresh), seed, std)


def _check_length(config: BackboneConfig, settings: Any) -> None:
    settings = settings.network_config() if settings.model_type == MODEL_TYPE else settings
    limit = n_positions(settings)
    if limit is not None and config.max_length > limit:
        raise ConfigError(
            f"backbone.max_length is {config.max_length} and '{config.path}' has positions for {limit} "
            f"tokens; set backbone.max_length = {limit}"
        )


def _set_dropout(settings: Any, rate: float | None) -> None:
    """Set every drop rate of the network; the head's is a setting of its own."""
    if rate is None:
        return
    for name, value in list(settings.to_dict().items()):
        drops = "dropout" in name or name.endswith(("_pdrop", "_drop"))
        if drops and "classif" not in name and isinstance(value, (int, float)):
            setattr(settings, name, rate)


def _name_labels(settings: Any, task: Task) -> None:
    settings.id2label = dict(enumerate(task.labels))
    settings.label2id = {label: i for i, label in enumerate(task.labels)}
    settings.problem_type = task.problem_type

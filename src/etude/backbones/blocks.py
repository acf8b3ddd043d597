"""Blocks: a network's parameters in order of depth, found without knowing the architecture.

The list of modules with the most parameters is the layers. What is registered before it, or has "embed"
in its name, is the embeddings; what comes after it (a final norm) belongs to the last layer, since it
works on that layer's output and should train and freeze with it.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from etude.errors import ConfigError


def find_layers(network: nn.Module) -> tuple[str, nn.ModuleList]:
    """Return the list of a network's layers and its name.

    Raises:
        ConfigError: the network has no list of layers.
    """
    lists = [(name, m) for name, m in network.named_modules() if isinstance(m, nn.ModuleList) and len(m)]
    if not lists:
        raise ConfigError(f"{type(network).__name__} has no list of layers, so it is no transformer we know")
    return max(lists, key=lambda item: sum(p.numel() for p in item[1].parameters()))


def find_blocks(network: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return ``("embeddings", ..)``, ``("layer.0", ..)`` and so on, which hold every parameter once."""
    name, layers = find_layers(network)
    before: list[nn.Module] = []
    after: list[nn.Module] = []
    _sort_siblings(network, name.split("."), before, after)
    blocks: list[tuple[str, nn.Module]] = [("embeddings", nn.ModuleList(before))]
    blocks += [(f"layer.{i}", layer) for i, layer in enumerate(layers)]
    if after:
        last_name, last = blocks[-1]
        blocks[-1] = (last_name, nn.ModuleList([last, *after]))
    return blocks


def _sort_siblings(
    parent: nn.Module, path: list[str], before: list[nn.Module], after: list[nn.Module]
) -> None:
    """Walk down to the layers and sort what stands beside the path."""
    own = nn.ParameterList(parent.parameters(recurse=False))
    if len(own):
        before.append(own)
    passed = False
    for name, child in parent.named_children():
        if name == path[0]:
            passed = True
            if len(path) > 1:
                _sort_siblings(child, path[1:], before, after)
        elif any(True for _ in child.parameters()):
            (after if passed and "embed" not in name else before).append(child)


def keep_layers(network: Any, n_layers: int) -> None:
    """Cut a network to its first layers.

    Raises:
        ConfigError: it has fewer.
    """
    _, layers = find_layers(network)
    config = network.config
    if not 1 <= n_layers <= len(layers) or len(layers) != config.num_hidden_layers:
        raise ConfigError(
            f"backbone.layers is {n_layers} and the network has {len(layers)} layers of its own; give a "
            f"number from 1 to {len(layers)}, or leave it out"
        )
    del layers[n_layers:]
    config.num_hidden_layers = n_layers
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:n_layers]

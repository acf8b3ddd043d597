"""Kinds of data: for each, the loader and the backbone that belong together.

One file, one kind; there is no list to edit. ``kind_of`` gives the kind of a config, ``open_saved`` that of
a saved model.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from etude.config.run import Config
from etude.errors import RunError
from etude.kinds.base import Kind, Saved

__all__ = ["Kind", "Saved", "kind_of", "open_saved"]


@cache
def _module_of(kind: str) -> str | None:
    """The module that holds a kind: the one of its name, or one that lists it in ``NAMES``.

    Modules are looked at one after the other, so that texts do not wait for what only images import.
    """
    names = [info.name for info in pkgutil.iter_modules(__path__) if info.name != "base"]
    for name in sorted(names, key=lambda name: name != kind):
        if kind in importlib.import_module(f"{__name__}.{name}").NAMES:
            return name
    return None


def _class_of(kind: str) -> type[Kind] | None:
    name = _module_of(kind)
    if name is None:
        return None
    found: type[Kind] = importlib.import_module(f"{__name__}.{name}").KIND
    return found


def kind_of(config: Config) -> Kind:
    """Return the kind that ``backbone.kind`` names, made for this config."""
    found = _class_of(config.backbone.kind)
    if found is None:
        raise RunError(f"this version of etude knows no kind {config.backbone.kind!r}")
    return found(config)


def open_saved(folder: Path, metadata: Mapping[str, Any]) -> Saved:
    """Open the model in a folder.

    Args:
        folder: the saved model's.
        metadata: what its ``etude.json`` says.

    Raises:
        RunError: it is damaged, or of a kind that this version does not know.
    """
    kind = metadata["input"].get("kind", "text")
    found = _class_of(kind)
    if found is None:
        raise RunError(f"the model in {folder} is of the kind {kind!r}, which this version does not know")
    return found.open_saved(folder, metadata)

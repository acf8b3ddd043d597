"""Parts of a network that techniques put into a backbone: heads and poolers with a name and settings.

A part is rebuilt from its name and settings when a saved model is opened, so that nothing that a user
loads has to execute code. Each file of this package defines parts; there is no list to edit.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch

from etude.errors import ConfigError, closest
from etude.parts.base import Head, LabelLayer, Part, Pooler, StackedHead

__all__ = ["Head", "LabelLayer", "Part", "Pooler", "StackedHead", "make_part", "parts"]


@cache
def parts() -> dict[str, type[Part]]:
    """Return every part by its name."""
    modules = [importlib.import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__)]
    return {
        value.name: value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Part) and value.__module__ == module.__name__
        and "name" in vars(value)
    }  # fmt: skip


def make_part(name: str, settings: Mapping[str, Any]) -> Part:
    """Return a part with weights yet to be drawn or read.

    Raises:
        ConfigError: there is no part of that name, or it takes other settings; a newer version of Étude
            may have them.
    """
    known = parts()
    if name not in known:
        raise ConfigError(
            f"there is no part '{name}'{closest(name, known)}; a newer version of etude may have saved it"
        )
    try:
        # What torch draws as it makes layers is thrown away, and must not shift what others draw.
        with torch.random.fork_rng(devices=[]):
            return known[name](**settings)
    except (TypeError, ValueError, KeyError) as error:
        raise ConfigError(
            f"the part '{name}' cannot be made of the settings {dict(settings)} ({error}); a newer version "
            "of etude may have saved it"
        ) from None

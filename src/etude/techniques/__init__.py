"""The catalogue: one technique, one file. Discovery walks this package; there is no list to edit.

Third-party techniques come through the entry-point group ``etude.techniques``: the entry point names
a module, and every :class:`~etude.core.technique.Technique` that the module defines is found.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any

from etude.core.phases import RANK
from etude.core.technique import Technique
from etude.errors import ConfigError, closest

ENTRY_POINT_GROUP = "etude.techniques"


def _defined_in(module: ModuleType) -> list[type[Technique[Any]]]:
    return [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Technique)
        and value.__module__ == module.__name__
        and "Config" in vars(value)
    ]


@cache
def catalogue() -> dict[str, type[Technique[Any]]]:
    """Return every technique by name, in the order of the phases.

    Raises:
        ConfigError: two techniques have one name.
    """
    modules = [
        importlib.import_module(info.name)
        for info in pkgutil.walk_packages(__path__, prefix=f"{__name__}.")
        if not info.ispkg
    ]
    modules += [point.load() for point in entry_points(group=ENTRY_POINT_GROUP)]
    found: dict[str, type[Technique[Any]]] = {}
    for module in modules:
        for technique in _defined_in(module):
            name = technique.key()
            if name in found:
                raise ConfigError(
                    f"two techniques are called '{name}': {found[name].__module__} and "
                    f"{technique.__module__}; rename one of them"
                )
            found[name] = technique
    return dict(sorted(found.items(), key=lambda item: (RANK[item[1].facts.phase.name], item[0])))


def technique_class(name: str) -> type[Technique[Any]]:
    """Return the technique of a name; raises :class:`ConfigError` with the closest one."""
    known = catalogue()
    if name not in known:
        raise ConfigError(
            f"there is no technique '{name}'{closest(name, known)} ('etude techniques' lists them)"
        )
    return known[name]

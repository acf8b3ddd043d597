"""Lets transformers open saved models after ``import etude``, without importing transformers for it.

The user writes ``import etude`` and ``from transformers import pipeline`` in any order. What Étude saves
is registered at the moment at which transformers' Auto classes are imported, or at once if they are.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType

AUTO_CLASSES = "transformers.models.auto.modeling_auto"


def register_when_transformers_loads() -> None:
    """Register the saved models' classes, now or when transformers' Auto classes are imported."""
    if AUTO_CLASSES in sys.modules:
        _register()
    elif not any(isinstance(finder, _Watcher) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Watcher())


def _register() -> None:
    importlib.import_module("etude.backbones.automodel").register_with_transformers()


class _Watcher(importlib.abc.MetaPathFinder):
    """Finds one module as Python would, and registers once that has been executed."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != AUTO_CLASSES:
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_register(module: ModuleType) -> None:
            execute(module)
            _register()

        # On the loader's instance, which belongs to this one module.
        setattr(spec.loader, "exec_module", execute_and_register)  # noqa: B010 - mypy refuses the assignment
        return spec

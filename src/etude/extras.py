"""Optional libraries: imported when a technique needs them, with the way out where they are missing."""

from __future__ import annotations

import importlib
from types import ModuleType

from etude.errors import ConfigError


def require(module: str, *, extra: str, technique: str) -> ModuleType:
    """Import an optional library.

    Args:
        module: the module's name.
        extra: the extra of this package that installs it.
        technique: who needs it.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ConfigError(
            f"{technique} needs the package '{module.split('.')[0]}', which is not installed; "
            f"run: pip install 'etude[{extra}]'"
        ) from None

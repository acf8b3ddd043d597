"""Vega, Vega-Lite and vega-embed as one script, from the package vl-convert-python."""

from __future__ import annotations

import functools
import os
import re
from importlib.metadata import version
from pathlib import Path

DEFINES = "window.vegaEmbed="
"""Stands at the end of a script that is whole."""


@functools.cache
def vega_bundle() -> str:
    """Return the script that draws charts, 0.9 MB, which defines ``vegaEmbed``.

    To put it together takes three seconds, so that it is kept in the user's cache folder under the version
    of the package that it comes from. A cache that cannot be read or written is done without.
    """
    # A user without a home raises RuntimeError.
    try:
        kept = cache_folder() / f"vega-{version('vl-convert-python')}.js"
        found = kept.read_text(encoding="utf-8")
    except (OSError, RuntimeError, UnicodeDecodeError):
        found = ""
    if DEFINES in found:
        return found
    made = _make()
    try:
        _keep(made, cache_folder() / f"vega-{version('vl-convert-python')}.js")
    except (OSError, RuntimeError):
        return made
    return made


def _keep(script: str, path: Path) -> None:
    """Write it under another name first: two runs may end at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    partial.write_text(script, encoding="utf-8")
    partial.replace(path)


def _make() -> str:
    import vl_convert

    text = vl_convert.javascript_bundle().strip()  # type: ignore[call-arg]  # both have defaults
    # An inline script ends at the first such tag, wherever it stands in the code.
    return re.sub(r"</(script)", r"<\\/\1", text, flags=re.IGNORECASE)


def cache_folder() -> Path:
    """Étude's folder for what can be made again, where the XDG standard wants it."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "etude"

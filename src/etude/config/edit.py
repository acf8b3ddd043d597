"""Changes of a config file's text that leave the rest of it, its comments included, as it stands."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from etude.config.load import merge
from etude.errors import ConfigError

_HEADER = re.compile(r"^\s*\[(?P<name>[^\[\]]+)\]\s*(#.*)?$")
Value = bool | int | float | str


def apply_settings(path: str | Path, settings: Mapping[str, Mapping[str, Value]]) -> None:
    """Write settings into a config file, whole or not at all.

    Args:
        path: the TOML file.
        settings: values by the table and the key.

    Raises:
        ConfigError: the file cannot be read or written, or holds the table in a form that is not edited.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"the config file '{file}' cannot be read: {error.strerror}") from None
    edited = text
    for table, values in settings.items():
        for key, value in values.items():
            edited = with_setting(edited, table, key, value)
    try:
        intact = tomllib.loads(edited) == merge(tomllib.loads(text), settings)
    except tomllib.TOMLDecodeError:
        intact = False
    if not intact:
        raise ConfigError(
            f"{file} writes [{', '.join(settings)}] in a form that --apply does not edit; paste the lines "
            "instead"
        )
    partial = file.with_name(f".{file.name}.partial")
    try:
        partial.write_text(edited, encoding="utf-8")
        partial.replace(file)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise ConfigError(
            f"the config file '{file}' cannot be written: {error.strerror}; paste the lines instead"
        ) from None


def with_setting(text: str, table: str, key: str, value: Value) -> str:
    r"""Return a TOML text in which a key of a table has the value; a table that is not there is added.

    >>> print(with_setting("[optimizer]  # mine\nlr = 1e-4  # peak\n", "optimizer", "lr", 3e-05), end="")
    [optimizer]  # mine
    lr = 3e-05  # peak
    >>> print(with_setting("seed = 1\n", "optimizer", "lr", 3e-05), end="")
    seed = 1
    <BLANKLINE>
    [optimizer]
    lr = 3e-05
    """
    lines = text.splitlines(keepends=True)
    literal = json.dumps(value, ensure_ascii=False)
    start = next((i for i, line in enumerate(lines) if _table_of(line) == table), None)
    if start is None:
        gap = "" if not text else "\n" if text.endswith("\n") else "\n\n"
        return f"{text}{gap}[{table}]\n{key} = {literal}\n"
    end = next((i for i in range(start + 1, len(lines)) if lines[i].lstrip().startswith("[")), len(lines))
    known = re.compile(rf"^(\s*(?:{re.escape(key)}|\"{re.escape(key)}\")\s*=\s*)([^#\n]*?)(\s*(?:#.*)?\n?)$")
    for i in range(start + 1, end):
        found = known.match(lines[i])
        if found is not None:
            lines[i] = f"{found[1]}{literal}{found[3]}"
            return "".join(lines)
    if not lines[start].endswith("\n"):
        lines[start] += "\n"
    lines.insert(start + 1, f"{key} = {literal}\n")
    return "".join(lines)


def _table_of(line: str) -> str | None:
    """The name of the table whose header the line is.

    >>> _table_of("[ optimizer ]  # which"), _table_of("lr = 1")
    ('optimizer', None)
    """
    found = _HEADER.match(line.rstrip("\n"))
    return None if found is None else ".".join(part.strip().strip('"') for part in found["name"].split("."))

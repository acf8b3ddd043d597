"""From a TOML file to a :class:`~etude.config.run.Config`, and back to TOML.

A file may build on another with ``extends = "base.toml"`` (relative to itself), and single settings
may be given from outside as ``"optimizer.lr=3e-5"``. Tables are merged key by key. One case is
different: where ``[optimizer]``, ``[schedule]`` or ``[loss]`` changes its ``name``, or ``[backbone]`` its
``kind``, the former settings mean nothing any more, and the whole table is replaced.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from etude.config.explain import validated
from etude.config.run import Config
from etude.errors import ConfigError

Table = dict[str, Any]

NAMED_TABLES = frozenset({"optimizer", "schedule", "loss"})
"""Tables that hold one technique, chosen by ``name``."""

OTHER_JOBS = frozenset({"study", "tune", "self_training"})
"""Sections of jobs that make many runs; a run itself does not look at them."""


ConfigLike = Config | str | Path | Mapping[str, Any]
"""A config, the TOML file of one, or tables of the same shape."""


def as_config(config: ConfigLike, overrides: Sequence[str] = ()) -> Config:
    """Return a config in whatever form it comes, with the overrides on top.

    Raises:
        ConfigError: as :func:`load_config`.
    """
    if isinstance(config, Config):
        return parse_config(config.model_dump(mode="json"), overrides) if overrides else config
    if isinstance(config, Mapping):
        return parse_config(config, overrides)
    return load_config(config, overrides)


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a config file, what it extends, and the overrides, in this order.

    Args:
        path: the TOML file.
        overrides: settings as ``"KEY.PATH=VALUE"``; a value is read as TOML, otherwise as text.

    Raises:
        ConfigError: the file is missing, is no UTF-8 or no TOML, extends itself, or holds a key or a
            value that cannot be used.
    """
    file = Path(path)
    table = of_the_run(read_tables(file, overrides))
    try:
        return validated(Config, table)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from error


def read_tables(path: str | Path, overrides: Sequence[str] = ()) -> Table:
    """Read a config file, what it extends, and the overrides as tables; raises as :func:`load_config`."""
    return merge(_read_chain(Path(path), ()), parse_overrides(overrides))


def of_the_run(table: Mapping[str, Any]) -> Table:
    """The tables of a run, without the sections of other jobs.

    >>> of_the_run({"seed": 1, "study": {"seeds": 3}})
    {'seed': 1}
    """
    return {key: value for key, value in table.items() if key not in OTHER_JOBS}


def parse_config(mapping: Mapping[str, Any], overrides: Sequence[str] = ()) -> Config:
    """Make a config of plain tables; raises :class:`ConfigError` as :func:`load_config` does.

    >>> parse_config({"data": {"train": "a.csv"}}, ["train.epochs=2"]).train.epochs
    2
    """
    return validated(Config, of_the_run(merge(mapping, parse_overrides(overrides))))


def merge(base: Mapping[str, Any], top: Mapping[str, Any]) -> Table:
    """Return ``base`` with ``top`` laid over it, tables merged key by key.

    >>> merge({"optimizer": {"name": "adamw", "lr": 1e-4}}, {"optimizer": {"lr": 3e-5}})
    {'optimizer': {'name': 'adamw', 'lr': 3e-05}}
    >>> merge({"optimizer": {"name": "adamw", "beta2": 0.98}}, {"optimizer": {"name": "sgd"}})
    {'optimizer': {'name': 'sgd'}}
    >>> merge({"backbone": {"kind": "table", "model": "mlp"}}, {"backbone": {"kind": "trees"}})
    {'backbone': {'kind': 'trees'}}
    """
    merged = dict(base)
    for key, value in top.items():
        below = merged.get(key)
        if not (isinstance(below, Mapping) and isinstance(value, Mapping)):
            merged[key] = value
        elif _chooses_another(key, below, value):
            merged[key] = dict(value)
        else:
            merged[key] = merge(below, value)
    return merged


def _chooses_another(key: str, below: Mapping[str, Any], top: Mapping[str, Any]) -> bool:
    """Whether a table names another technique or another kind of backbone than the one below it."""
    if key == "backbone":
        return "kind" in top and top["kind"] != below.get("kind", "text")
    return key in NAMED_TABLES and "name" in below and top.get("name", below["name"]) != below["name"]


def parse_overrides(overrides: Sequence[str]) -> Table:
    """Turn ``["optimizer.lr=3e-5"]`` into ``{"optimizer": {"lr": 3e-5}}``.

    Raises:
        ConfigError: an override has no ``=``, an empty key, or sets a key inside another's value.
    """
    tables: Table = {}
    for override in overrides:
        path, equals, text = override.partition("=")
        keys = [key.strip() for key in path.split(".")]
        if not equals or not all(keys):
            raise ConfigError(f"--set {override!r} is no KEY=VALUE; write it as --set optimizer.lr=3e-5")
        inner = tables
        for key in keys[:-1]:
            inner = inner.setdefault(key, {})
            if not isinstance(inner, dict):
                raise ConfigError(
                    f"--set {override!r} goes inside '{key}', which another --set has made a value"
                )
        inner[keys[-1]] = _value(text.strip())
    return tables


def _value(text: str) -> Any:
    """Read a value as TOML, otherwise as the text that it is."""
    try:
        table = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return table["value"] if len(table) == 1 else text


def _read_chain(file: Path, below: tuple[Path, ...]) -> Table:
    """Read a file over the one that it extends; ``below`` are the files that led to it."""
    chain = (*below, file)
    if file.resolve() in [former.resolve() for former in below]:
        raise ConfigError(f"the configs extend each other in a circle: {' -> '.join(map(str, chain))}")
    table = _read(file, below[-1] if below else None)
    if "extends" not in table:
        return table
    base = table.pop("extends")
    if not isinstance(base, str):
        raise ConfigError(f'{file}: extends is {base!r} and must be one file, as extends = "base.toml"')
    return merge(_read_chain(file.parent / base, chain), table)


def _read(file: Path, extended_by: Path | None) -> Table:
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        origin = f" (that {extended_by} extends)" if extended_by else ""
        raise ConfigError(
            f"there is no config file '{file}'{origin}; 'etude init DATA_FILE' writes one"
        ) from None
    except OSError as error:
        raise ConfigError(f"the config file '{file}' cannot be read: {error.strerror}") from error
    try:
        return tomllib.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{file}, line {line}: this is not UTF-8; save the file as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(_toml_error(file, str(error))) from None


def _toml_error(file: Path, message: str) -> str:
    """Put the place that tomllib's message ends with in front of it."""
    found = re.fullmatch(r"(?s)(.*) \(at (.*)\)", message)
    what, where = (found[1], found[2]) if found else (message, "somewhere")
    return f"{file}, {where}: this is not TOML: {what[:1].lower()}{what[1:]}"


def dump_config(config: Config) -> str:
    """Write a config as TOML, defaults included; :func:`load_config` reads the same config back."""
    return to_toml(config.model_dump(exclude_none=True))


def to_toml(table: Mapping[str, Any], path: tuple[str, ...] = ()) -> str:
    """Write tables, lists, text, numbers and booleans as TOML.

    >>> print(to_toml({"seed": 0, "optimizer": {"name": "adamw", "betas": [0.9, 0.999]}}), end="")
    seed = 0
    <BLANKLINE>
    [optimizer]
    name = "adamw"
    betas = [0.9, 0.999]
    """
    plain = {key: value for key, value in table.items() if not isinstance(value, Mapping)}
    lines = [f"{_key(key)} = {_literal(value)}\n" for key, value in plain.items()]
    if path and (plain or not table):
        lines.insert(0, f"\n[{'.'.join(map(_key, path))}]\n")
    inner = [to_toml(value, (*path, key)) for key, value in table.items() if key not in plain]
    return "".join([*lines, *inner])


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _literal(key)


def _literal(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return repr(value)
        case list() | tuple():
            return f"[{', '.join(map(_literal, value))}]"
        case Mapping():
            return f"{{{', '.join(f'{_key(key)} = {_literal(inner)}' for key, inner in value.items())}}}"
    # JSON's strings are TOML's, save that TOML wants the delete character escaped too.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")

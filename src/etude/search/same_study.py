"""Whether a study's folder holds the study that is about to go on in it: the same base, on the same data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from etude.config.run import Config
from etude.errors import RunError
from etude.runs.folder import whole_file

STUDY = "study.json"
FORMAT = 1
MOST_SHOWN = 3


def keep_or_refuse(folder: Path, base: Config, seed: int, data: str) -> None:
    """Write what a study compares with into its folder, or refuse to go on with another one.

    Args:
        folder: the study's.
        base: the run that all variants are compared with.
        seed: the study's first.
        data: the fingerprint of the base's data with this seed.

    Raises:
        RunError: the folder holds a study of another base or of other data; names what differs.
    """
    path, settings = folder / STUDY, told(base)
    known = _read(path)
    if known is not None:
        _refuse_another_base(known["base"], settings, folder)
        if known["data"].get(str(seed), data) != data:
            raise RunError(
                f"{folder} holds a study of other data: the rows of {base.data.train} or of its validation "
                "part have changed since; put them back, or choose another folder with --dir"
            )
    fingerprints = {**({} if known is None else known["data"]), str(seed): data}
    if known is not None and fingerprints == known["data"]:
        return
    content = {"format": FORMAT, "base": settings, "data": fingerprints}
    with whole_file(path, f"make room, or choose another folder than {folder} with --dir") as file:
        file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _read(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        dict(known["base"]), dict(known["data"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} cannot be read: {error}; choose another folder with --dir") from None
    return known


def told(config: Config) -> dict[str, Any]:
    """The settings of a base by their dotted names, without defaults and without where files lie.

    >>> from etude.config.load import parse_config
    >>> told(parse_config({"data": {"train": "a.csv"}, "train": {"epochs": 3}}))
    {'train.epochs': 3}
    """
    left_out: Any = {"run": True, "seed": True, "data": {"train", "test"}}
    flat = _flat(config.model_dump(mode="json", exclude=left_out, exclude_defaults=True))
    return {name: value for name, value in flat.items() if value not in (None, {})}


def _flat(table: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in table.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping) and value:
            found |= _flat(value, f"{name}.")
        else:
            found[name] = value
    return found


def _refuse_another_base(then: Mapping[str, Any], now: Mapping[str, Any], folder: Path) -> None:
    names = [name for name in sorted({*then, *now}) if then.get(name) != now.get(name)]
    if not names:
        return
    shown = [f"{name} was {_value(then, name)} and is {_value(now, name)}" for name in names[:MOST_SHOWN]]
    more = len(names) - MOST_SHOWN
    further = f", and {more} more settings differ" if more > 0 else ""
    raise RunError(
        f"{folder} holds a study of another base: {', '.join(shown)}{further}; put the settings back, or "
        "choose another folder with --dir"
    )


def _value(table: Mapping[str, Any], name: str) -> str:
    return json.dumps(table[name]) if name in table else "the default"

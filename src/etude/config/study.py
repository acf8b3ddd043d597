"""``[study]``: which variants of a run are compared with it, and on how many seeds.

The rest of the file is the base, a run as any other. A variant is a table of changes, laid over the base's
tables as a file that extends it would be; keys may be nested or dotted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from etude.config.durations import seconds_of
from etude.config.explain import validated
from etude.config.fields import Strict, setting
from etude.config.load import Table, merge, of_the_run, parse_overrides, read_tables
from etude.errors import ConfigError

BASE = "base"
"""What the run that all variants are compared with is called."""

FIXED = {
    "seed": "the study gives each variant the same seeds",
    "run": "the study keeps its runs in a folder of its own",
    "study": "it is the study itself",
    "tune": "a study tunes nothing",
    "extends": "a variant is laid over the study's own base",
}
"""Keys that no variant may change, with the reason."""

Seeds = Annotated[int, Field(ge=1, strict=True)] | list[Annotated[int, Field(ge=0, strict=True)]]


class StudyConfig(Strict):
    """What ``etude study`` compares."""

    seeds: Seeds = setting(5, help="how many seeds each variant is trained on, or which")
    variants: dict[str, dict[str, Any]] = setting(
        {}, help="one table of changes of the base for each variant, by its name"
    )
    techniques: list[str] = setting(
        [], help="techniques to be measured: each is put in where the base lacks it, and left out where not"
    )
    leave_one_out: bool = setting(
        False, help="measure every technique of the base, the recommended ones too, by leaving it out"
    )
    metric: str | None = setting(
        None, help="what is compared on the validation part; absent is the task's main metric"
    )
    budget: str | None = setting(
        None, help="time for all runs together, as '30m' or '2h': weak variants then get fewer seeds"
    )
    keep: Literal["scores", "models"] = setting(
        "scores", help="what stays of each run: its scores, or its model too, for ensembles and soups"
    )
    dir: str = setting("runs/study", help="the study's folder")

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, value: int | list[int]) -> int | list[int]:
        if isinstance(value, list):
            if not value:
                raise ValueError("seeds is an empty list; name at least one seed, or give their number")
            repeated = next((seed for seed in value if value.count(seed) > 1), None)
            if repeated is not None:
                raise ValueError(f"seeds names {repeated} twice; name each seed once")
        return value

    @field_validator("budget")
    @classmethod
    def _budget_is_a_duration(cls, value: str | None) -> str | None:
        if value is not None:
            seconds_of(value)
        return value

    @model_validator(mode="after")
    def _something_is_compared(self) -> Self:
        if not (self.variants or self.techniques or self.leave_one_out):
            raise ValueError(
                "there is nothing to compare with the base: add [study.variants.NAME] tables, "
                'techniques = ["ema", ...], or leave_one_out = true'
            )
        if BASE in self.variants:
            raise ValueError(f"a variant is called '{BASE}', which is the run without changes; rename it")
        repeated = next((name for name in self.techniques if self.techniques.count(name) > 1), None)
        if repeated is not None:
            raise ValueError(f"techniques names '{repeated}' twice; name each once")
        return self

    def seeds_from(self, first: int) -> list[int]:
        """The seeds: those that are named, or as many as wished from the base's on."""
        return self.seeds if isinstance(self.seeds, list) else list(range(first, first + self.seeds))

    @property
    def seconds(self) -> float | None:
        """The budget in seconds."""
        return None if self.budget is None else seconds_of(self.budget)


def read_study(
    source: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()
) -> tuple[StudyConfig, Table]:
    """Read a study and the tables of its base, which are not yet validated.

    Args:
        source: a TOML file, or a mapping of the same shape.
        overrides: ``"study.seeds=3"`` and the like.

    Raises:
        ConfigError: there is no ``[study]``, or it holds what cannot be used.
    """
    if isinstance(source, Mapping):
        tables, where = merge(source, parse_overrides(overrides)), ""
    else:
        tables, where = read_tables(source, overrides), f"{source}: "
    section = tables.get("study")
    if not isinstance(section, Mapping):
        raise ConfigError(
            f"{where}there is no [study] section, which says what to compare; add one with "
            'techniques = ["ema", ...] or [study.variants.NAME] tables'
        )
    try:
        study = validated(StudyConfig, section, "study")
        for name, changes in study.variants.items():
            _check_variant(name, changes)
    except ConfigError as error:
        raise ConfigError(f"{where}{error}") from error
    return study, of_the_run(tables)


def _check_variant(name: str, changes: Mapping[str, Any]) -> None:
    for key in nested(changes, f"study.variants.{name}"):
        if key in FIXED:
            raise ConfigError(f"the variant '{name}' changes '{key}' and may not: {FIXED[key]}; remove it")


def nested(changes: Mapping[str, Any], where: str = "the variant") -> Table:
    """Return changes with dotted keys opened into tables.

    Raises:
        ConfigError: a key lies inside another's value.

    >>> nested({"optimizer.lr": 1e-4, "techniques": {"ema": {}}})
    {'optimizer': {'lr': 0.0001}, 'techniques': {'ema': {}}}
    """
    found: Table = {}
    for path, value in changes.items():
        inner: Any = nested(value, where) if isinstance(value, Mapping) else value
        *above, last = path.split(".")
        if not all((*above, last)):
            raise ConfigError(f"{where} has the key {path!r} with an empty part; write it as optimizer.lr")
        for key in (last, *reversed(above)):
            inner = {key: inner}
        for key in set(inner) & set(found):
            if isinstance(inner[key], Mapping) != isinstance(found[key], Mapping):
                raise ConfigError(f"{where} gives '{key}' a value and changes inside it; give one of the two")
        found = merge(found, inner)
    return found

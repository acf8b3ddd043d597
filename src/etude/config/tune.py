"""``[tune]``: which settings a study tries, how it chooses them, and how its winner is confirmed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from etude.config.durations import seconds_of
from etude.config.explain import validated
from etude.config.fields import Strict, setting
from etude.config.load import merge, parse_config, parse_overrides, read_tables
from etude.config.run import Config
from etude.errors import ConfigError

Explored = Annotated[int, Field(ge=0, strict=True)] | Annotated[float, Field(ge=0, le=1)]
"""Trials: a number, or a share of all."""

ENDS = frozenset({"low", "high", "log"})
KEPT = (
    "data", "columns", "run", "pretrain", "stages", "tune", "study", "seed", "task", "decision", "extends",
)  # fmt: skip
"""Sections that no trial may change: they say what is measured, where and on what."""


class Roles(Strict):
    """What settings are tuned for (Godbole et al. 2023, Deep Learning Tuning Playbook).

    A scientific setting is what the study asks about; a nuisance setting must be tuned for each of its
    values, or the comparison is unfair; a fixed one stays as the config has it.
    """

    scientific: list[str] = setting(
        [], help="settings whose values are compared, each with as many trials as the others"
    )
    nuisance: list[str] = setting(
        [],
        help="settings that are tuned so that the comparison is fair; all others, where this is empty",
    )
    fixed: list[str] = setting([], help="settings that stay as they are")


class TuneConfig(Strict):
    """How ``etude tune`` looks for better settings."""

    trials: int | None = setting(
        None, help="how many trainings; absent is 30, and of a grid all of its points", ge=1
    )
    mode: Literal["search", "grid", "one_at_a_time"] = setting(
        "search",
        help="explore and then exploit; every combination; or one setting after the other, the others fixed",
    )
    metric: str | None = setting(
        None, help="what is compared on the validation part; absent is the task's main metric"
    )
    explore: Explored = setting(
        0.4,
        help="trials, or the share of them, that are spread evenly before the sampler takes over",
    )
    sampler: Literal["tpe", "gp"] = setting(
        "tpe", help="what proposes settings afterwards: a Parzen estimator or a Gaussian process"
    )
    pruner: Literal["none", "median", "asha", "hyperband"] = setting(
        "none", help="what stops a trial whose validation scores fall behind"
    )
    points: int = setting(5, help="values of a range in a grid, or where it is scientific", ge=2)
    seeds: int = setting(
        5, help="fresh seeds on which the winner and the default are compared; 0 leaves that out", ge=0
    )
    keep: int = setting(
        0, help="the models of so many of the best trials are kept, for etude soup --top and ensembles", ge=0
    )
    funnel: list[float] = setting(
        [], help="shares of the training rows on which all trials run first, as [0.01, 0.1]"
    )
    survivors: float = setting(
        0.3, help="share of the trials, the best ones, that go on to the next share of rows", gt=0, le=1
    )
    timeout: str | None = setting(None, help="no trial begins later than this, as '30m' or '2h'")
    storage: str | None = setting(
        None, help="database of the study, as 'postgresql://...'; absent is study.db in the run's folder"
    )
    study: str | None = setting(None, help="name of the study there; absent is that of the run's folder")
    heartbeat: int = setting(
        10, help="seconds after which a process says again that it is alive", unit="seconds", ge=1
    )
    roles: Roles = Roles()
    space: dict[str, Any] = setting(
        {},
        help="settings by path: { low, high, log }, a list of choices, or false for none; what is absent "
        "has the ranges of the chosen techniques",
    )

    @field_validator("space", mode="before")
    @classmethod
    def _space_is_flat(cls, value: Any) -> Any:
        return dict(_checked(value)) if isinstance(value, Mapping) else value

    @field_validator("timeout")
    @classmethod
    def _timeout_is_a_duration(cls, value: str | None) -> str | None:
        if value is not None:
            seconds_of(value)
        return value

    @field_validator("funnel")
    @classmethod
    def _funnel_widens(cls, value: list[float]) -> list[float]:
        if any(not 0 < share < 1 for share in value) or sorted(set(value)) != value:
            raise ValueError(
                f"{value} must be rising shares of the training rows, each above 0 and below 1, as "
                "[0.01, 0.1]; all rows come last by themselves"
            )
        return value

    @model_validator(mode="after")
    def _modes_fit(self) -> Self:
        if self.funnel and self.mode != "search":
            raise ValueError(
                f'funnel is for mode = "search", and mode is "{self.mode}"; remove one of the two'
            )
        return self

    @property
    def seconds(self) -> float:
        """The timeout in seconds; infinite where there is none."""
        return math.inf if self.timeout is None else seconds_of(self.timeout)


def read_tune(
    source: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()
) -> tuple[Config, TuneConfig]:
    """Read a run and its ``[tune]`` from a file or from plain tables.

    Args:
        source: the TOML file, or tables of the same shape.
        overrides: ``"tune.trials=50"``, ``"optimizer.lr=3e-5"`` and the like.

    Raises:
        ConfigError: the file cannot be read, or holds a key or a value that cannot be used.

    >>> config, tune = read_tune({"data": {"train": "a.csv"}}, ["tune.trials=9"])
    >>> config.data.train, tune.trials
    ('a.csv', 9)
    """
    if isinstance(source, Mapping):
        tables = merge(source, parse_overrides(overrides))
        return parse_config(tables), _section(tables)
    tables = read_tables(source, overrides)
    try:
        return parse_config(tables), _section(tables)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error


def _section(tables: Mapping[str, Any]) -> TuneConfig:
    given = tables.get("tune", {})
    if not isinstance(given, Mapping):
        raise ConfigError(f"tune is {given!r} and must be a table")
    return validated(TuneConfig, given, "tune")


def _checked(table: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each path of a space with its range, choices or ``false``."""
    for key, value in table.items():
        inner = f"{path}.{key}" if path else str(key)
        if isinstance(value, Mapping) and not ENDS & value.keys():
            yield from _checked(value, inner)
            continue
        section = inner.split(".")[0]
        if section in KEPT:
            raise ValueError(
                f"'{inner}' is no setting to tune: [{section}] says what is measured, and must be the same "
                "in all trials; remove it"
            )
        if isinstance(value, Mapping):
            yield inner, _range(inner, value)
        elif isinstance(value, (list, tuple)):
            yield inner, _choices(inner, value)
        elif value is False:
            yield inner, False
        else:
            raise ValueError(
                f"'{inner}' is {value!r} and must be a range {{ low = ..., high = ... }}, a list of choices, "
                "or false for a setting that stays as it is"
            )


def _range(path: str, value: Mapping[str, Any]) -> dict[str, Any]:
    unknown = sorted(value.keys() - ENDS)
    if unknown:
        raise ValueError(f"'{path}' has an unknown key '{unknown[0]}'; a range takes low, high and log")
    low: Any = value.get("low")
    high: Any = value.get("high")
    log = value.get("log", False)
    for name, end in (("low", low), ("high", high)):
        if not isinstance(end, (int, float)) or isinstance(end, bool) or not math.isfinite(end):
            given = f"{name} = {end!r}" if name in value else f"no {name}"
            raise ValueError(f"'{path}' has {given}; a range is {{ low = NUMBER, high = NUMBER }}")
    if not isinstance(log, bool):
        raise ValueError(f"'{path}' has log = {log!r}; it must be true or false")  # noqa: TRY004
    if low > high:
        raise ValueError(f"'{path}' has low = {low:g} above high = {high:g}; exchange them")
    if low == high:
        raise ValueError(
            f"'{path}' is a space of one point, {low:g}; widen the range, or set {path} in the config and "
            "leave it out of the space"
        )
    if log and low <= 0:
        raise ValueError(f"'{path}' has log = true and low = {low:g}; a logarithmic range begins above 0")
    return {"low": low, "high": high, "log": log}


def _choices(path: str, value: Any) -> list[Any]:
    choices = list(value)
    for place, choice in enumerate(choices):
        if choice in choices[:place]:
            raise ValueError(f"'{path}' has the choice {choice!r} twice; give each once")
    if len(choices) < 2:
        given = "no choices" if not choices else f"a space of one point, {choices[0]!r}"
        raise ValueError(
            f"'{path}' is {given}; give at least two, or set {path} in the config and leave it out of the "
            "space"
        )
    return choices

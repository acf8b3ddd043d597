"""The space of a study: which settings are tried, between which ends and on which scale.

Without a word of the user it holds the ranges that the chosen techniques and the backbone declare beside
their settings: shares are uniform; learning rates, decays and epsilons logarithmic. A path names a setting
as the config has it: ``optimizer.lr``, ``techniques.clip.max_norm``, ``train.epochs``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from etude.config.load import merge, parse_config
from etude.config.run import Config
from etude.config.tune import TuneConfig
from etude.core.plan import Plan
from etude.core.technique import Technique
from etude.errors import ConfigError, closest
from etude.runs.final import KEEPS_BEST
from etude.runs.resolve import SLOTS, resolve_techniques
from etude.search.dimension import Dimension
from etude.techniques import technique_class

Tables = dict[str, Any]


def make_space(config: Config, tune: TuneConfig, plan: Plan) -> list[Dimension]:
    """Return the settings of a study, sorted by path.

    Args:
        config: the run's.
        tune: its ``[tune]``.
        plan: of this run, whose techniques declare ranges.

    Raises:
        ConfigError: a path names no setting, a range leaves the setting's bounds, a role names what is not
            tuned, or nothing is left to tune.
    """
    found = {dimension.path: dimension for dimension in declared(config, plan)}
    for path, given in tune.space.items():
        found.pop(path, None)
        if given is not False:
            found[path] = _from_user(path, given, config, tune, plan)
    for path in tune.roles.fixed:
        if path in tune.space and tune.space[path] is not False:
            raise ConfigError(
                f"tune.roles has '{path}' as fixed, and tune.space gives it values; remove one of the two"
            )
        found.pop(path, None)
    _check_roles(tune, found)
    named = {*tune.space, *tune.roles.scientific, *tune.roles.nuisance}
    chosen = [path for path in sorted(found) if not tune.roles.nuisance or path in named]
    dimensions = [_with_role(found[path], tune) for path in chosen]
    if not dimensions:
        raise ConfigError(
            "there is nothing to tune: no chosen technique declares a range; name settings in [tune.space], "
            'as "optimizer.lr" = { low = 1e-5, high = 1e-3, log = true }'
        )
    for dimension in dimensions:
        if not dimension.path.endswith(".enabled"):
            _check_ends(dimension, config)
    return dimensions


def declared(config: Config, plan: Plan) -> Iterator[Dimension]:
    """Yield what the backbone and the plan's techniques declare, with what the run has as default."""
    for key, field in type(config.backbone).model_fields.items():
        if (found := _declared(field)) is not None:
            yield _dimension(f"backbone.{key}", field, found, getattr(config.backbone, key))
    for name, technique in plan.techniques.items():
        if name == KEEPS_BEST and name not in config.techniques:
            continue  # train.final brought it, with the one number that it may have
        for key, field in type(technique.config).model_fields.items():
            if (found := _declared(field)) is not None:
                path = f"{section_of(technique)}.{key}"
                yield _dimension(path, field, found, getattr(technique.config, key))


def section_of(technique: Technique[Any] | type[Technique[Any]]) -> str:
    """The table of the config that holds a technique's settings."""
    phase = technique.facts.phase
    found = next((section for section, (slot, _) in SLOTS.items() if slot is phase), None)
    return found or f"techniques.{technique.key()}"


def overrides(params: Mapping[str, Any]) -> Tables:
    """Turn paths and values into the tables of a config.

    >>> overrides({"optimizer.lr": 1e-3, "optimizer.eps": 1e-8})
    {'optimizer': {'lr': 0.001, 'eps': 1e-08}}
    """
    tables: Tables = {}
    for path, value in params.items():
        *outer, key = path.split(".")
        inner = tables
        for name in outer:
            inner = inner.setdefault(name, {})
        inner[key] = value
    return tables


def with_params(config: Config, params: Mapping[str, Any]) -> Config:
    """Return the config with some settings changed.

    Raises:
        ConfigError: a value cannot be used.
    """
    if not params:
        return config
    return parse_config(merge(config.model_dump(mode="json", exclude_none=True), overrides(params)))


def _declared(field: FieldInfo) -> Mapping[str, Any] | None:
    extra = field.json_schema_extra
    found = extra.get("search") if isinstance(extra, dict) else None
    return found if isinstance(found, dict) else None


def _dimension(path: str, field: FieldInfo, found: Mapping[str, Any], default: Any) -> Dimension:
    whole = is_whole(field.annotation)
    low, high = (int(found[end]) if whole else float(found[end]) for end in ("low", "high"))
    least, most = bounds(field)
    return Dimension(path, low, high, found["scale"] == "log", whole, default=default, least=least, most=most)


def bounds(field: FieldInfo | None) -> tuple[float | None, float | None]:
    """The least and the greatest value that a setting admits, where it says so."""
    least: float | None = None
    most: float | None = None
    for bound in _flat(field.metadata) if field is not None else []:
        least = getattr(bound, "ge", getattr(bound, "gt", least))
        most = getattr(bound, "le", getattr(bound, "lt", most))
    return least, most


def _flat(metadata: list[Any]) -> Iterator[Any]:
    for item in metadata:
        yield from item.metadata if isinstance(item, FieldInfo) else [item]


def is_whole(annotation: Any) -> bool:
    """Whether a setting takes whole numbers and no others.

    >>> is_whole(int | None), is_whole(float)
    (True, False)
    """
    arms = (
        get_args(annotation) if get_origin(annotation) is Union or "|" in str(annotation) else (annotation,)
    )
    return int in arms and float not in arms


def _from_user(path: str, given: Any, config: Config, tune: TuneConfig, plan: Plan) -> Dimension:
    field, default = field_at(path, config, tune, plan)
    if isinstance(given, list):
        return Dimension(path, choices=tuple(given), default=default)
    low, high = given["low"], given["high"]
    whole = (
        is_whole(field.annotation) if field is not None else isinstance(low, int) and isinstance(high, int)
    )
    if whole and (low != int(low) or high != int(high)):
        raise ConfigError(f"tune.space: '{path}' takes whole numbers, and its range is {low:g} to {high:g}")
    ends = (int(low), int(high)) if whole else (float(low), float(high))
    least, most = bounds(field)
    low, high = ends
    return Dimension(path, low, high, given["log"], whole, default=default, least=least, most=most)


def field_at(path: str, config: Config, tune: TuneConfig, plan: Plan) -> tuple[FieldInfo | None, Any]:
    """Return the setting that a path names and the value that the run has there.

    Raises:
        ConfigError: there is none, or its technique is not chosen.
    """
    section, *rest = path.split(".")
    if section == "techniques" and len(rest) == 2:
        return _technique_field(path, rest[0], rest[1], tune, plan)
    if section in SLOTS and len(rest) == 1:
        phase = SLOTS[section][0]
        chosen = next((t for t in plan.techniques.values() if t.facts.phase is phase), None)
        if chosen is not None and rest[0] in type(chosen.config).model_fields:
            return type(chosen.config).model_fields[rest[0]], getattr(chosen.config, rest[0])
        if f"{section}.name" in tune.space:
            return None, None  # a setting of another of the names
        keys = list(type(chosen.config).model_fields) if chosen else []
        owner = chosen.key() if chosen else section
        raise ConfigError(f"tune.space: '{path}' is no setting of {owner}{closest(rest[0], keys)}")
    table: Any = config
    field: FieldInfo | None = None
    for place, key in enumerate([section, *rest]):
        known = type(table).model_fields if isinstance(table, BaseModel) else {}
        if key not in known:
            above = ".".join([section, *rest][:place]) or "the config"
            raise ConfigError(
                f"tune.space: '{path}' names no setting: {above} has no '{key}'{closest(key, known)}"
            )
        field, table = known[key], getattr(table, key)
    return field, table


def _technique_field(
    path: str, name: str, key: str, tune: TuneConfig, plan: Plan
) -> tuple[FieldInfo | None, Any]:
    technique = technique_class(name)
    if key == "enabled":
        return None, name in plan.techniques
    fields = technique.Config.model_fields
    if key not in fields:
        raise ConfigError(f"tune.space: '{path}' is no setting of {name}{closest(key, fields)}")
    if name in plan.techniques:
        return fields[key], getattr(plan.techniques[name].config, key)
    if f"techniques.{name}.enabled" not in tune.space:
        raise ConfigError(
            f"tune.space: '{path}' is a setting of {name}, which the config does not choose; add "
            f'[techniques.{name}], or try it with "techniques.{name}.enabled" = [true, false] in the space'
        )
    return fields[key], None


def _with_role(dimension: Dimension, tune: TuneConfig) -> Dimension:
    if dimension.path not in tune.roles.scientific:
        return dimension
    values = tuple(dimension.grid(tune.points))
    return replace(dimension, choices=values, low=None, high=None, log=False, whole=False, role="scientific")


def _check_roles(tune: TuneConfig, found: Mapping[str, Dimension]) -> None:
    roles = tune.roles
    for role in ("scientific", "nuisance"):
        for path in getattr(roles, role):
            if path not in found:
                raise ConfigError(
                    f"tune.roles has '{path}' as {role}, which is not tuned{closest(path, found)}; tuned are "
                    f"{', '.join(sorted(found))}"
                )
    both = sorted(set(roles.scientific) & set(roles.nuisance))
    if both:
        raise ConfigError(f"tune.roles has '{both[0]}' as scientific and as nuisance; name it once")


def _check_ends(dimension: Dimension, config: Config) -> None:
    """Try both ends of a range, or every choice, in the config; its own bounds refuse what they must."""
    for value in dimension.choices or (dimension.low, dimension.high):
        try:
            resolve_techniques(with_params(config, {dimension.path: value}), None)
        except ConfigError as error:
            raise ConfigError(f"tune.space: '{dimension.path}' holds {value!r}, and {error}") from None

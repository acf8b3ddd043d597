"""What a study compares: the base's tables with each variant's changes laid over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from etude.config.explain import validated
from etude.config.load import Table, merge
from etude.config.run import Config
from etude.config.study import BASE, StudyConfig, nested
from etude.core.phases import OBSERVE
from etude.core.plan import refuse_early
from etude.errors import ConfigError, EtudeError
from etude.runs.resolve import SLOTS, resolve_techniques
from etude.techniques import technique_class

Role = Literal["base", "variant", "added", "removed"]


@dataclass(frozen=True)
class Variant:
    """One way of training.

    Attributes:
        name: as tables and pages have it.
        role: the base itself, a variant of the user's, a technique put in, or one that the base has left out.
        tables: the run's, before they are validated.
        config: validated, with the base's seed.
    """

    name: str
    role: Role
    tables: Mapping[str, Any]
    config: Config

    def with_seed(self, seed: int) -> Config:
        """The config of this variant's run with a seed."""
        return validated(Config, merge(self.tables, {"seed": seed}))


def variants_of(study: StudyConfig, base: Table) -> list[Variant]:
    """Return the base and behind it every variant, each checked as far as it can be without data.

    Raises:
        ConfigError: one cannot be used, is the base again, or another once more; names it.
    """
    first = _variant(BASE, "base", base, {})
    if first.config.data.validation is False and first.config.data.folds is None:
        raise ConfigError(
            "a study compares scores on the validation part, and data.validation is false; set it"
        )
    techniques = _techniques_of(first.config)
    found = [first]
    for name, changes in study.variants.items():
        found.append(_variant(name, "variant", base, nested(changes, f"study.variants.{name}")))
    asked = [(name, name in techniques) for name in study.techniques]
    if study.leave_one_out:
        asked += [
            (name, True) for name in sorted(techniques) if name not in study.techniques and _counts(name)
        ]
    for name, has in asked:
        changes = _without(name) if has else _with(name, first.config)
        found.append(_variant(name, "removed" if has else "added", base, changes))
    _refuse_repeated(found)
    return found


def _techniques_of(config: Config) -> set[str]:
    """The techniques of a run, as far as they are known without data."""
    return {technique.key() for technique in resolve_techniques(config, None)}


def _counts(name: str) -> bool:
    """Whether leaving it out could change the weights: it fills no slot and does not only look on."""
    phase = technique_class(name).facts.phase
    return phase is not OBSERVE and _slot(name) is None


def _slot(name: str) -> str | None:
    phase = technique_class(name).facts.phase
    return next((slot for slot, (filled, _) in SLOTS.items() if filled is phase), None)


def _with(name: str, base: Config) -> Table:
    slot = _slot(name)
    if slot is not None:
        return {slot: {"name": name}}
    off = base.techniques.get(name, {}).get("enabled", True) is False
    return {"techniques": {name: {"enabled": True} if off else {}}}


def _without(name: str) -> Table:
    slot = _slot(name)
    if slot is not None:
        raise ConfigError(
            f"study.techniques names '{name}', which is the base's {slot} and cannot be left out; compare it "
            f'with another by [study.variants.NAME.{slot}] name = "..."'
        )
    return {"techniques": {name: {"enabled": False}}}


def _variant(name: str, role: Role, base: Table, changes: Table) -> Variant:
    tables = merge(base, changes)
    try:
        config = validated(Config, tables)
        refuse_early(resolve_techniques(config, None))
    except EtudeError as error:
        if role == "base":
            raise
        raise ConfigError(f"the variant '{name}' cannot be trained: {error}") from error
    return Variant(name, role, tables, config)


def _refuse_repeated(variants: Sequence[Variant]) -> None:
    for place, variant in enumerate(variants):
        for other in variants[:place]:
            if variant.name == other.name:
                raise ConfigError(f"two variants are called '{variant.name}'; rename one of them")
            if variant.config == other.config:
                of = "the base" if other.role == "base" else f"'{other.name}'"
                raise ConfigError(
                    f"the variant '{variant.name}' has the same settings as {of}, which leaves nothing to "
                    "compare; change it or remove it"
                )

"""From the tables of a config to technique objects: the recommended set, and what the user says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from etude.config.explain import validated
from etude.config.run import Config
from etude.core.phases import LOSS, OPTIMIZER, SCHEDULE, Phase
from etude.core.task import Task
from etude.core.technique import Technique
from etude.errors import ConfigError
from etude.runs.estimator import is_estimator, techniques_of_estimator
from etude.runs.final import techniques_for_final
from etude.techniques import catalogue, technique_class

RECOMMENDED: Mapping[str, Mapping[str, Any]] = {
    "no_decay": {},
    "length_buckets": {},
    "clip": {},
    "warmup": {},
    "linear_probe": {},
    "head_lr": {"factor": 10.0},
    "training_dynamics": {},
    "loss_history": {},
}
"""The default recipe for a network that was trained before; ``docs/defaults.md`` has the measurements that
chose it."""

FRESH: Mapping[str, Mapping[str, Any]] = {
    "no_decay": {},
    "clip": {},
    "warmup": {},
    "training_dynamics": {},
    "loss_history": {},
}
"""The same for a network that starts from random weights, whose head is no fresher than what is under it."""

FRESH_OPTIMIZER: Mapping[str, Any] = {"lr": 1e-3}
"""Settings of the default optimizer for such a network: it has further to go than a trained one."""

RANDOM_HEAD_FACTOR = 100.0
"""The recommended factor of head_lr where the head does not start from a probe and has far to go."""

FITTED_HEADS = frozenset({"linear_probe", "kept_head"})
"""Techniques after which a head is no longer far from where it should be."""

DEEP_HEAD_FACTOR = 10.0
"""The same where a pooler of layers comes with the head: a recurrent or attention layer diverges sooner."""

SLOTS: Mapping[str, tuple[Phase[Any], str]] = {
    "optimizer": (OPTIMIZER, "adamw"),
    "schedule": (SCHEDULE, "linear"),
    "loss": (LOSS, ""),
}
"""Config sections that pick the technique of a phase by name, with the default name."""


def resolve_techniques(
    config: Config, task: Task | None, capabilities: frozenset[str] | None = None
) -> list[Technique[Any]]:
    """Return the techniques of a run, validated.

    Args:
        config: the run's config.
        task: names the loss where the config names none; without a task that loss is left out, so that
            names and settings can be checked before any data are read.
        capabilities: the backbone's; recommended techniques that need others step aside.

    Raises:
        ConfigError: an unknown technique or key, a value out of bounds, a technique in the wrong
            section.
    """
    if is_estimator(config):
        acting = techniques_of_estimator(config)
        loss = [] if task is None else [_make(task.default_loss, {}, "loss")]
        return [*loss, *(_make(name, table, f"techniques.{name}") for name, table in acting.items())]
    chosen = {name: dict(table) for name, table in config.techniques.items()}
    off = {name for name, table in chosen.items() if not table.pop("enabled", True)}
    for name in chosen:
        slot = next(
            (s for s, (phase, _) in SLOTS.items() if technique_class(name).facts.phase is phase), None
        )
        if slot is not None:
            raise ConfigError(f'[techniques.{name}] belongs into [{slot}] as name = "{name}"')
    where = {name: f"techniques.{name}" for name in chosen}
    for section, (phase, default) in SLOTS.items():
        table = dict(getattr(config, section))
        if (
            section == "optimizer"
            and not config.backbone.pretrained
            and table.get("name", default) == default
        ):
            table = {**FRESH_OPTIMIZER, **table}
        name = table.pop("name", default or (task and task.default_loss))
        if name is None:
            continue
        known = [key for key, found in catalogue().items() if found.facts.phase is phase]
        if name not in known:
            raise ConfigError(f"[{section}] name = {name!r} is unknown; choose from {', '.join(known)}")
        chosen[name], where[name] = table, section
    chosen = {name: table for name, table in chosen.items() if name not in off}
    for name, table in techniques_for_final(config, chosen).items():
        chosen[name], where[name] = table, "train.final"
    if config.defaults:
        chosen = {**_rules_of_text(config), **chosen}
        for name, settings in (RECOMMENDED if config.backbone.pretrained else FRESH).items():
            needs = technique_class(name).facts.needs
            able = capabilities is None or needs <= capabilities
            if name not in off and able and _fits(name, chosen):
                chosen.setdefault(name, dict(settings))
                where.setdefault(name, f"techniques.{name}")
        if "head_lr" in chosen and "head_lr" not in config.techniques and not FITTED_HEADS & set(chosen):
            deep = any(technique_class(name).facts.puts_pooler for name in chosen)
            chosen["head_lr"] = {"factor": DEEP_HEAD_FACTOR if deep else RANDOM_HEAD_FACTOR}
    return [_make(name, table, where.get(name, f"techniques.{name}")) for name, table in chosen.items()]


def _rules_of_text(config: Config) -> dict[str, dict[str, Any]]:
    """The rule that lets a trained text network beside a fresh one learn more slowly, or not at all."""
    text = getattr(config.backbone, "text", None)
    if text is None:
        return {}
    said = {"lr_factor": text.lr_scale} if text.lr_scale else {"frozen_until": "1dur"}
    return {"group_rules": {"rules": [{"match": ["text"], **said}]}}


def _fits(name: str, chosen: Mapping[str, Any]) -> bool:
    """Whether a recommended technique leaves everything that the user chose its place."""
    facts = technique_class(name).facts
    for other in chosen:
        theirs = technique_class(other).facts
        same_slot = facts.phase is theirs.phase and facts.phase.takes == "one"
        if other != name and (same_slot or name in theirs.clashes or other in facts.clashes):
            return False
    return True


def _make(name: str, table: Mapping[str, Any], where: str) -> Technique[Any]:
    technique = technique_class(name)
    return technique(validated(technique.Config, {**table, "name": name}, where))

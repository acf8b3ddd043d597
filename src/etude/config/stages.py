"""``[[stages]]``: several runs in one config, each from the last one's model.

A stage is a name, a job, and what differs from the rest of the file, as nested or dotted tables. A text that
is ``{previous}``, or ``{NAME}`` of an earlier stage, stands for the folder of that stage's model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from etude.config.explain import validated
from etude.config.fields import Strict, setting
from etude.config.load import Table, merge
from etude.config.run import Config
from etude.config.study import nested
from etude.errors import ConfigError, closest

Job = Literal["train", "pretrain", "self_train"]

PREVIOUS = "previous"
MODEL = "model"
KEPT_HEAD, SELF_LEARNING = "kept_head", "self_learning"
OTHER_HEADS = ("linear_probe", "zero_head")
"""Techniques that give a head its first weights; where one is chosen, the last stage's head is not kept."""

_PLACEHOLDER = re.compile(r"\{([^{}/]+)\}(/.*)?")
_FIXED = {"stages": "stages hold no stages", "run.dir": "each stage's folder lies in that of the whole run",
          "run.job": "job says it"}  # fmt: skip


class StageConfig(Strict):
    """What a stage is, beside the settings that differ."""

    name: str = setting(help="names the stage's folder", pattern=r"^[a-z0-9][a-z0-9_-]*$")
    job: Job = setting(
        "train", help="learn labels, learn from inputs alone, or learn also from rows without labels"
    )


@dataclass(frozen=True)
class Stage:
    """One stage, resolved.

    Attributes:
        name: its name.
        job: what it does.
        folder: its run's, inside that of the whole.
        config: of its run.
        waits_for: the models of earlier stages that its config names.
    """

    name: str
    job: Job
    folder: Path
    config: Config
    waits_for: tuple[str, ...]

    @property
    def model(self) -> Path:
        """Where its model will be."""
        return self.folder / MODEL

    @property
    def knows_labels(self) -> bool:
        """Whether its model predicts labels."""
        return self.job != "pretrain"


def resolve_stages(config: Config) -> list[Stage]:
    """Return the stages of a config in their order, each with its own config.

    Raises:
        ConfigError: a stage has no name of its own, holds what cannot be used, names a stage that is not
            before it, or the last one learns no labels.
    """
    stages: list[Stage] = []
    base = config.model_dump(mode="json", exclude={"stages"}, exclude_none=True)
    for number, table in enumerate(config.stages, start=1):
        where = f"stages[{number}]"
        said = {key: table[key] for key in StageConfig.model_fields if key in table}
        told = validated(StageConfig, said, where)
        if told.name in {PREVIOUS, *(stage.name for stage in stages)}:
            raise ConfigError(f"{where} is named '{told.name}', which is taken; give it another name")
        changes = nested({key: value for key, value in table.items() if key not in said}, where)
        stages.append(_resolve(told, number, changes, base, stages, is_last=number == len(config.stages)))
    if stages and not stages[-1].knows_labels:
        raise ConfigError(
            f"the last stage '{stages[-1].name}' pre-trains and learns no labels; add a stage that trains, "
            "or use 'etude pretrain'"
        )
    return stages


def _resolve(
    told: StageConfig, number: int, changes: Table, base: Table, before: list[Stage], *, is_last: bool
) -> Stage:
    where = f"the stage '{told.name}'"
    for path, reason in _FIXED.items():
        section, _, key = path.partition(".")
        if section in changes and (not key or key in changes[section]):
            raise ConfigError(f"{where} sets {path} and may not: {reason}; remove it")
    waits: set[str] = set()
    changes = _filled(changes, where, before, waits)
    kind = changes.get("backbone", {}).get("kind", base["backbone"]["kind"])
    if kind != base["backbone"]["kind"]:  # settings of another kind of backbone mean nothing to this one
        base = {**base, "backbone": {}}
    under = _from_previous(told, kind, changes, base, before, waits)
    if not is_last:  # simple models are compared with what comes out at the end
        under["run"] = {"baselines": False}
    merged = merge(merge(base, under), changes)
    folder = Path(base["run"]["dir"]) / f"{number}-{told.name}"
    own = {"run": {"dir": str(folder), "job": "pretrain" if told.job == "pretrain" else "train"}}
    try:
        config = validated(Config, merge(merged, own))
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    return Stage(told.name, told.job, folder, config, tuple(sorted(waits)))


def _from_previous(
    told: StageConfig, kind: str, changes: Table, base: Table, before: list[Stage], waits: set[str]
) -> Table:
    """What a stage takes over from the last one, unless it says otherwise itself."""
    found: Table = {}
    techniques = merge(base["techniques"], changes.get("techniques", {}))
    if told.job == "self_train" and SELF_LEARNING not in techniques:
        found["techniques"] = {SELF_LEARNING: {}}
    if not before or "path" in changes.get("backbone", {}) or kind not in WITH_PATH:
        return found
    model = str(before[-1].model)
    waits.add(model)
    found["backbone"] = {"path": model}
    chosen = any(name in techniques and techniques[name].get("enabled", True) for name in OTHER_HEADS)
    if before[-1].knows_labels and told.job != "pretrain" and not chosen:
        found.setdefault("techniques", {})[KEPT_HEAD] = {"model": model}
    return found


WITH_PATH = ("text", "table", "image")
"""The kinds of backbones that may start from a saved one."""


def _filled(value: Any, where: str, before: list[Stage], waits: set[str]) -> Any:
    """Put folders in the place of placeholders, and note them."""
    if isinstance(value, Mapping):
        return {key: _filled(inner, where, before, waits) for key, inner in value.items()}
    found = _PLACEHOLDER.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return value
    models = {stage.name: str(stage.model) for stage in before}
    if before:
        models[PREVIOUS] = str(before[-1].model)
    if found[1] not in models:
        known = closest(found[1], models) or "; only stages before it have a model"
        raise ConfigError(f"{where} names {value!r}, and no earlier stage is called so{known}")
    waits.add(models[found[1]])
    return models[found[1]] + (found[2] or "")

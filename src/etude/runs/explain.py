"""The resolved plan of a config, without training: what acts, in which order, at what cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from etude.config.run import Config
from etude.config.stages import Stage, resolve_stages
from etude.core.backbone import Backbone
from etude.core.observe import Reporter
from etude.core.timetable import batch_sizes
from etude.pretraining.pretext import Pretext
from etude.runs.build import Run, build
from etude.runs.stages import left_out, rehearse


@dataclass(frozen=True)
class Explanation:
    """The plan as text for people and as data for programs."""

    text: str
    data: dict[str, Any]


def explain(config: Config, *, reporter: Reporter | None = None) -> Explanation:
    """Resolve a config against its data and backbone, and say what a run, or each stage of it, would do."""
    if config.stages:
        return _explain_stages(resolve_stages(config), reporter)
    return explain_run(build(config, reporter=reporter))


def _explain_stages(stages: Sequence[Stage], reporter: Reporter | None) -> Explanation:
    texts: list[str] = []
    facts: list[dict[str, Any]] = []
    for number, stage in enumerate(stages, start=1):
        found = explain_run(rehearse(stage, stages, reporter))
        path, waiting = getattr(stage.config.backbone, "path", None), left_out(stage)
        texts.append(f"stage {number}      {stage.name}: {stage.job}, in {stage.folder}")
        if path in stage.waits_for:
            texts.append(f"starts from  {path}")
        texts += [found.text, ""]
        if waiting:
            texts += [f"and, once earlier stages are done: {', '.join(waiting)}", ""]
        facts.append({"name": stage.name, "job": stage.job, "waiting": waiting, **found.data})
    return Explanation("\n".join(texts).rstrip(), {"stages": facts})


def explain_run(run: Run) -> Explanation:
    """Say what a run that is ready to train would do."""
    data = _facts(run)
    lines = [
        f"task         {data['task']}, {len(data['labels'])} labels",
        "rows         " + ", ".join(f"{part} {n}" for part, n in data["rows"].items()),
        *_beside_the_text(data),
        f"backbone     {run.kind.describe(_described(run.backbone))}",
        *(_of_steps(data) if run.kind.trained_by_steps else []),
        "",
        "the plan, in the order in which its parts act:",
    ]
    width = max(len(entry["phase"]) for entry in data["plan"])
    lines += [
        f"  {entry['phase']:<{width}}  {entry['technique']:<20} {entry['settings']}".rstrip()
        for entry in data["plan"]
    ]
    lines += ["", "parameter groups:"] if data["groups"] else []
    for group in data["groups"]:
        frozen = f", frozen until step {group['frozen_until']}" if group["frozen_until"] else ""
        lines.append(
            f"  {group['name']}: {group['tensors']} tensors, {group['parameters']:,} numbers, "
            f"lr {group['lr']:g}, weight decay {group['weight_decay']:g}{frozen}"
        )
    for note in data["notes"]:
        lines += ["", note]
    return Explanation("\n".join(lines), data)


def _described(backbone: Backbone) -> Backbone:
    """The backbone that a user knows: in a pre-training, the one inside the pretext."""
    return backbone.inner if isinstance(backbone, Pretext) else backbone


def _facts(run: Run) -> dict[str, Any]:
    plan, engine, config = run.plan, run.engine, run.config
    return {
        "task": run.data.task.kind,
        "labels": list(run.data.task.labels),
        "rows": run.n_rows(),
        "numeric": list(config.data.numeric),
        "soft_labels": run.data.soft_targets,
        "precision": plan.context.precision,
        "device": str(run.accelerator.device),
        "steps": engine.settings.total_steps,
        "steps_per_epoch": plan.context.steps_per_epoch,
        "steps_of_epochs": list(plan.context.epoch_steps),
        "batch_sizes": batch_sizes(plan),
        "passes": plan.passes(),
        "plan": [
            {
                "phase": entry.phase.name,
                "technique": entry.technique,
                "settings": _settings(plan.techniques[entry.technique].config),
            }
            for entry in plan.entries()
        ],
        "notes": list(plan.notes),
        "warnings": list(plan.warnings),
        "groups": [
            {
                "name": group.name,
                "tensors": len(group.params),
                "parameters": sum(p.numel() for p in group.params),
                "lr": group.lr,
                "weight_decay": group.weight_decay,
                "frozen_until": group.frozen_until,
            }
            for group in engine.groups
        ],
    }


def _of_steps(data: Mapping[str, Any]) -> list[str]:
    """Lines on a training by steps."""
    return [
        f"precision    {data['precision']} on {data['device']}",
        f"steps        {_steps(data)}",
        f"cost         {data['passes']:g} passes a step",
    ]


def _beside_the_text(data: Mapping[str, Any]) -> list[str]:
    """Lines on what not every data set has: numbers beside the text, soft labels."""
    numbers = [f"numbers      {', '.join(data['numeric'])}"] if data["numeric"] else []
    return numbers + (["labels       soft: their shares are the targets"] if data["soft_labels"] else [])


def _steps(data: Mapping[str, Any]) -> str:
    """The steps of the run, of an epoch and their rows; runs of equal numbers are named once."""
    sizes, steps = _once(data["batch_sizes"]), _once(data["steps_of_epochs"])
    return f"{data['steps']} of {sizes} rows, {steps} an epoch"


def _once(numbers: Sequence[int]) -> str:
    """Join numbers, each run of equal ones as one: ``32 then 64``."""
    return " then ".join(str(number) for number, _ in groupby(numbers))


def _settings(config: Any) -> str:
    values = config.model_dump(mode="json", exclude={"name"}, exclude_none=True)
    return ", ".join(f"{name}={value}" for name, value in values.items())

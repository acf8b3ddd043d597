"""Stages: the runs of one config in a row, each from the last one's model; what is done is not done again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from etude.config.run import Config
from etude.config.stages import Stage, resolve_stages
from etude.core.checkpoint import PARTIAL
from etude.core.observe import Reporter
from etude.core.plan import refuse_early
from etude.errors import EtudeError, Interrupted, RunError
from etude.runs.build import Run, build
from etude.runs.folder import CONFIG, STAGES, SUMMARY, RunFolder, reason
from etude.runs.pretrain import Pretrained, build_pretraining, pretrain, resume_pretraining
from etude.runs.resolve import resolve_techniques
from etude.runs.train import Result, headline
from etude.runs.train import resume as resume_training
from etude.runs.train import train as train_one


def train_stages(config: Config, *, reporter: Reporter | None = None) -> Result:
    """Train all stages of a config into the folder ``config.run.dir``.

    Returns:
        The last stage's result, in the folder of the whole, with one line for each stage.

    Raises:
        EtudeError: a stage's config, the data or the folder cannot be used; nothing has begun then.
        Interrupted: Ctrl-C; ``resume`` goes on in the middle of the stage.
    """
    reporter = reporter or Reporter()
    stages = resolve_stages(config)
    RunFolder.refuse_used(Path(config.run.dir))
    check_stages(stages, reporter)
    return _run(RunFolder.create(config), stages, reporter)


def resume_stages(path: Path, *, reporter: Reporter | None = None) -> Result:
    """Go on with the stages of a folder from where they stopped.

    Raises:
        RunError: the folder holds no run, or a stage's folder is not as it was.
    """
    folder, config = RunFolder.open(path)
    moved = config.run.model_copy(update={"dir": str(path)})
    return _run(folder, resolve_stages(config.model_copy(update={"run": moved})), reporter or Reporter())


def check_stages(stages: Sequence[Stage], reporter: Reporter) -> list[str]:
    """Build every stage as far as it can be without the models of those before it; return the warnings.

    Raises:
        EtudeError: names the stage.
    """
    found: list[str] = []
    for stage in stages:
        try:
            if stage.knows_labels:
                refuse_early(resolve_techniques(stage.config, None))
            found += rehearse(stage, stages).data.warnings
        except EtudeError as error:
            raise type(error)(f"the stage '{stage.name}': {error}") from error
    return list(dict.fromkeys(found))


def rehearse(stage: Stage, stages: Sequence[Stage], reporter: Reporter | None = None) -> Run:
    """Build a stage's run; while a model of an earlier stage is not there, the first backbone stands for it.

    Techniques that open such a model are left out.

    Raises:
        EtudeError: anything in the config, the data or the backbone that cannot be used.
    """
    config = stage.config
    absent = [model for model in stage.waits_for if not Path(model).exists()]

    def waits(value: Any) -> bool:
        if isinstance(value, Mapping):
            return any(waits(inner) for inner in value.values())
        return isinstance(value, str) and any(value.startswith(model) for model in absent)

    kept = {name: table for name, table in config.techniques.items() if not waits(table)}
    if waits({"path": getattr(config.backbone, "path", None)}):
        first = getattr(stages[0].config.backbone, "path", None)
        config = config.model_copy(update={"backbone": config.backbone.model_copy(update={"path": first})})
    config = config.model_copy(update={"techniques": kept})
    make = build if stage.knows_labels else build_pretraining
    return make(config, reporter=reporter)


def left_out(stage: Stage) -> list[str]:
    """The techniques of a stage that open a model which is not there yet."""
    absent = [model for model in stage.waits_for if not Path(model).exists()]
    return sorted(
        name
        for name, table in stage.config.techniques.items()
        if any(model in json.dumps(table) for model in absent)
    )


def _run(folder: RunFolder, stages: Sequence[Stage], reporter: Reporter) -> Result:
    """Run the stages that are not done, and put the last one's model into the folder of the whole."""
    done = _done(folder)
    result: Result | None = None
    for number, stage in enumerate(stages, start=1):
        if stage.name in done:
            reporter.line(f"stage {number} of {len(stages)}, {stage.name}: done before")
            continue
        reporter.line(f"stage {number} of {len(stages)}, {stage.name}: {stage.job}")
        try:
            found = _one(stage, reporter)
        except Interrupted as stopped:
            told = str(stopped).replace(str(stage.folder), str(folder.path))
            raise Interrupted(f"{told} (in the stage '{stage.name}')") from None
        if isinstance(found, Result):
            result = found
        done[stage.name] = _told(stage, found)
        folder.write(STAGES, list(done.values()))
    last = stages[-1]
    _copy_model(last.model, folder.model, folder)
    result = result or _result_of(last)
    return replace(result, folder=folder.path, stages=tuple(done.values()))


def _done(folder: RunFolder) -> dict[str, dict[str, Any]]:
    """What ``stages.json`` says of the finished stages, by name."""
    path = folder.path / STAGES
    if not path.is_file():
        return {}
    try:
        return {line["name"]: line for line in json.loads(path.read_text(encoding="utf-8"))}
    except (OSError, ValueError, TypeError, KeyError):
        raise RunError(f"{path} is damaged; remove it, and finished stages are finished again") from None


def _one(stage: Stage, reporter: Reporter) -> Result | Pretrained:
    begun = (stage.folder / CONFIG).is_file()
    if stage.knows_labels:
        if begun:
            return resume_training(stage.folder, reporter=reporter)
        return train_one(stage.config, reporter=reporter)
    if begun:
        return resume_pretraining(stage.folder, reporter=reporter)
    return pretrain(stage.config, reporter=reporter)


def _told(stage: Stage, found: Result | Pretrained) -> dict[str, Any]:
    """One line of ``stages.json``."""
    if isinstance(found, Result):
        part = "test" if "test" in found.scores else "validation"
        scores = found.scores.get(part, {})
        said = f"{part}: {headline(scores)}" if scores else ""
    else:
        after = found.losses.get("after", {})
        said = f"held out: loss {after['loss']:.4f}" if after else ""
    return {
        "name": stage.name,
        "job": stage.job,
        "folder": stage.folder.name,
        "seconds": found.seconds,
        "said": said,
    }


def _result_of(stage: Stage) -> Result:
    """The result of a stage that was finished in an earlier process."""
    path = stage.folder / SUMMARY
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        scores = {part: found for part, found in summary["metrics"].items() if part != "train"}
        seconds = summary["seconds"]["train"]
        return Result(stage.folder, scores, summary.get("intervals", {}), seconds, summary["plan"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} cannot be read ({error}); train the stages again in another folder") from None


def _copy_model(source: Path, target: Path, folder: RunFolder) -> None:
    """Copy a model's folder, whole or not at all."""
    partial = target.with_name(f"{PARTIAL}{target.name}")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(source, partial)
        if target.exists():
            shutil.rmtree(target)
        partial.rename(target)
    except OSError as error:
        raise RunError(
            f"the model of the last stage could not be copied to {target}: {reason(error)}; make room, then "
            f"go on with: etude resume {folder.path}"
        ) from None

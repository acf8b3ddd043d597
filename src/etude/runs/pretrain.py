"""Pre-training: a backbone learns from inputs alone, and is saved where ``backbone.path`` may name it.

It is a run as any other, whose task has no labels: a pretext stands around the backbone, an objective is
placed into the plan, and techniques that act on labels, heads or features of a trained model rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from torch import Tensor

from etude.config.run import Config
from etude.core import phases
from etude.core.engine import Engine
from etude.core.examples import Examples
from etude.core.observe import Reporter
from etude.core.phases import Phase
from etude.core.plan import Plan, refuse_early
from etude.core.technique import Context, Technique
from etude.core.timetable import build_timed_plan
from etude.data.unlabelled import load_inputs
from etude.errors import ConfigError
from etude.kinds import kind_of
from etude.pretraining import make_objective
from etude.pretraining.pretext import Objective, Pretext, PretextTask, scores
from etude.runs.build import Run, choose_precision, make_accelerator, make_settings
from etude.runs.final import final_weights
from etude.runs.fit import fit, go_back_to_checkpoint
from etude.runs.folder import SUMMARY, RunFolder
from etude.runs.resolve import FRESH, RECOMMENDED, resolve_techniques
from etude.techniques import technique_class

ACTING: tuple[Phase[Any], ...] = (
    phases.OPTIMIZER, phases.SCHEDULE, phases.WARMUP, phases.ORDER, phases.BATCH_SIZE, phases.TUNE,
    phases.ADJUST, phases.PERTURB, phases.GRADIENT, phases.AVERAGE,
)  # fmt: skip
"""The phases whose techniques say how to train, whatever is learned."""

ALSO_ACTING, RESTING = frozenset({"no_decay"}), frozenset({"soup", "easy_to_hard"})
"""Techniques of other phases that act too, and techniques of these that need scores of labels."""


@dataclass(frozen=True)
class Pretrained:
    """What a finished pre-training gives.

    Attributes:
        folder: the run's.
        losses: loss and accuracy of the held-out rows, before and after.
        seconds: how long it trained.
        plan: what acted, in its order.
    """

    folder: Path
    losses: dict[str, dict[str, float]]
    seconds: float
    plan: str

    @property
    def path(self) -> Path:
        """The folder of the backbone, for ``backbone.path``."""
        return self.folder / "model"


def pretrain(config: Config, *, reporter: Reporter | None = None) -> Pretrained:
    """Pre-train in the folder ``config.run.dir``.

    Raises:
        EtudeError: the config, the data or the folder cannot be used.
        Interrupted: Ctrl-C; a checkpoint was written and ``resume`` goes on.
    """
    reporter = reporter or Reporter()
    config = as_pretraining(config)
    RunFolder.refuse_used(Path(config.run.dir))
    run = build_pretraining(config, reporter=reporter)
    for line in introduction(run, config):
        reporter.line(line)
    folder = RunFolder.create(config) if run.accelerator.is_main_process else RunFolder(Path(config.run.dir))
    run.accelerator.wait_for_everyone()
    return _finish(run, folder, reporter)


def resume_pretraining(path: Path, *, reporter: Reporter | None = None) -> Pretrained:
    """Go on with a pre-training from its last checkpoint.

    Raises:
        RunError: the folder holds no run, or its last checkpoint or its data are not as they were.
    """
    reporter = reporter or Reporter()
    folder, config = RunFolder.open(path)
    run = go_back_to_checkpoint(folder, lambda: build_pretraining(config, reporter=reporter), reporter)
    return _finish(run, folder, reporter)


def as_pretraining(config: Config) -> Config:
    """Return the config of a run that pre-trains."""
    return config.model_copy(update={"run": config.run.model_copy(update={"job": "pretrain"})})


def acts(name: str) -> bool:
    """Whether a technique acts without labels."""
    phase = technique_class(name).facts.phase
    return name in ALSO_ACTING or (name not in RESTING and any(phase is acting for acting in ACTING))


def settings_of(config: Config) -> Config:
    """Return the config by which the engine trains: lengths and rates of ``[pretrain]``, no loss of labels.

    Raises:
        ConfigError: a technique is unknown.
    """
    wanted = config.pretrain
    train = config.train
    sizes = {"epochs": wanted.epochs, "batch_size": wanted.batch_size or train.batch_size, "max_steps": None}
    final = {"final": "auto"} if train.final in ("best", "average") else {}
    kept = {name: table for name, table in config.techniques.items() if acts(name)}
    off = {name: {"enabled": False} for name in {**RECOMMENDED, **FRESH} if not acts(name)}
    # The numbers beside a text are no part of what a text's network learns.
    data = config.data.model_copy(update={"numeric": []}) if config.backbone.kind == "text" else config.data
    return config.model_copy(
        update={
            "data": data,
            "train": train.model_copy(update={**sizes, **final}),
            "optimizer": config.optimizer if wanted.lr is None else {**config.optimizer, "lr": wanted.lr},
            "loss": {},
            "techniques": kept | off,
        }
    )


def build_pretraining(config: Config, *, reporter: Reporter | None = None) -> Run:
    """Read the inputs, put a pretext around the backbone, and return a run ready to pre-train.

    Raises:
        EtudeError: anything in the config, the data or the backbone that cannot be used.
    """
    reporter = reporter or Reporter()
    wanted, config = config.pretrain, settings_of(config)
    precision = choose_precision(config.train.precision)
    objective = make_objective(wanted, config.backbone.kind)
    refuse_early(resolve_techniques(config, None))
    accelerator = make_accelerator(precision)
    kind, task = kind_of(config), PretextTask()
    inputs = load_inputs(config, kind.loader(), task, wanted.held_out, reporter)
    data, learned = inputs.data, inputs.learned
    backbone = objective.wrap(kind.backbone(task, data), data, config.seed)
    plan = _plan(config, objective, backbone, learned, precision)
    for warning in plan.warnings:
        reporter.warn(warning)

    def score(found: Tensor, examples: Examples) -> dict[str, float]:
        return scores(found)

    engine = Engine(
        plan, backbone, learned, accelerator, make_settings(config, plan),
        validation=objective.held_out(inputs.held_out, config.seed), score=score, reporter=reporter,
    )  # fmt: skip
    return Run(config, kind, data, engine.backbone, plan, engine, accelerator)


def _plan(config: Config, objective: Objective, backbone: Pretext, train: Examples, precision: str) -> Plan:
    def refuse(path: str) -> Any:
        raise ConfigError(f"{path} is a model with labels, and pre-training has none; leave it out")

    def make_techniques() -> list[Technique[Any]]:
        return [*resolve_techniques(config, None, backbone.capabilities), objective]

    epochs, size = config.train.epochs, config.train.batch_size
    per_epoch = -(-len(train) // size)
    context = Context(
        task=PretextTask(),
        backbone=backbone,
        class_counts=np.zeros(1),
        n_rows=len(train),
        batch_size=size,
        steps_per_epoch=per_epoch,
        total_steps=per_epoch * epochs,
        epoch_steps=(per_epoch,) * epochs,
        seed=config.seed,
        load_model=refuse,
        precision=precision,
    )
    return build_timed_plan(make_techniques, context, train, None)


def introduction(run: Run, config: Config) -> list[str]:
    """What is about to be learned, and which techniques of the config rest."""
    settings, rows = run.engine.settings, rows_of(run)
    objective = next(t for t in run.plan.techniques.values() if isinstance(t, Objective))
    lines = [
        f"pre-training by {objective.name}, share {objective.share:g}; rows: {rows['train']:,}, held out "
        f"{rows['held_out']:,}; {settings.total_steps:,} steps of "
        f"{settings.batch_size} rows on {run.accelerator.device} in {run.plan.context.precision}"
    ]
    resting = sorted(name for name in config.techniques if not acts(name))
    if resting:
        lines.append(f"without labels these techniques rest: {', '.join(resting)}")
    return [*lines, *run.data.notes, *run.plan.notes]


def _finish(run: Run, folder: RunFolder, reporter: Reporter) -> Pretrained:
    """Train from wherever the engine stands, then save the backbone."""
    engine, main = run.engine, run.accelerator.is_main_process
    if engine.step == 0 and engine.position == 0:
        engine.attach_folder(log=folder.log if main else None, checkpoints=None)
        before = engine.evaluate()
        reporter.line(f"before: {headline(before)}")
    seconds = fit(run, folder, reporter, headline)
    losses = _losses(folder, main)
    with final_weights(run.config, engine):
        if main:
            run.backbone.save(folder.model, metadata(run))
    if main:
        folder.write(
            SUMMARY,
            {
                "job": "pretrain",
                "rows": rows_of(run),
                "steps": engine.step,
                "losses": losses,
                "seconds": {"train": seconds},
                "plan": run.plan.describe(),
            },
        )
    run.accelerator.wait_for_everyone()
    return Pretrained(folder.path, losses, seconds, run.plan.describe())


def rows_of(run: Run) -> dict[str, int]:
    """How many rows are learned from, and how many measured on."""
    return {"train": len(run.engine.train), "held_out": len(cast("Examples", run.engine.validation))}


def _losses(folder: RunFolder, main: bool) -> dict[str, dict[str, float]]:
    found = [record["validation"] for record in folder.history() if "validation" in record] if main else []
    return {"before": found[0], "after": found[-1]} if found else {}


def metadata(run: Run) -> dict[str, Any]:
    """What ``etude.json`` says of a pre-trained backbone: no task and no labels."""
    acting = sorted({entry.technique for entry in run.plan.entries()})
    schema = run.kind.schema(run.data)
    return {"format": 1, "pretrained": acting, "input": {"kind": run.config.backbone.kind, **schema}}


def headline(found: Any) -> str:
    """The held-out loss in one line.

    >>> headline({"loss": 2.5, "accuracy": 0.25})
    'loss 2.5000, accuracy 0.2500'
    """
    return ", ".join(f"{name} {value:.4f}" for name, value in found.items())

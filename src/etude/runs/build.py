"""From a configuration to an engine: device, data, backbone, plan, groups."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from torch import Tensor

from etude.config.run import Config
from etude.core.backbone import Backbone
from etude.core.engine import Engine, Settings
from etude.core.examples import Examples
from etude.core.observe import Reporter
from etude.core.plan import Plan, refuse_early
from etude.core.technique import Context, Technique
from etude.core.timetable import batch_sizes, build_timed_plan
from etude.data.load import Data, Part, load_data
from etude.data.table import Table
from etude.decision.checks import check_targets
from etude.errors import ConfigError
from etude.evaluation.metrics import Scores, score
from etude.evaluation.names import quick_metrics
from etude.kinds import Kind, kind_of, open_saved
from etude.runs.estimator import EstimatorEngine
from etude.runs.folder import find_model, read_metadata
from etude.runs.resolve import resolve_techniques
from etude.runs.shared import Shared, data_fingerprint, weights_fingerprint

MAY_CHANGE: Mapping[str, Any] = {
    "data": True,
    "decision": True,
    "run": True,
    "backbone": {"path"},
    "train": {
        "micro_batch_size", "evaluate_every", "save_every", "keep_checkpoints", "log_every", "cache_features",
    },
}  # fmt: skip
"""Settings that do not decide a run's weights, or whose meaning the data's own hash holds."""


@dataclass(frozen=True)
class Run:
    """Everything that a run is made of, ready to be trained.

    Attributes:
        initial: a hash of the weights that it begins with, by which runs may be told to have begun alike.
    """

    config: Config
    kind: Kind
    data: Data
    backbone: Backbone
    plan: Plan
    engine: Engine
    accelerator: Any
    initial: str = ""

    def parts(self) -> dict[Part, Examples]:
        """The parts that may be read before the final scoring, by name; the test part is locked."""
        found: dict[Part, Examples] = {"train": self.data.train}
        if self.data.validation is not None:
            found["validation"] = self.data.validation
        return found

    def n_rows(self) -> dict[Part, int]:
        """The rows of every part, the locked one included."""
        counted = {name: len(part) for name, part in self.parts().items()}
        return counted if self.data.test is None else counted | {"test": len(self.data.test)}

    def introduction(self) -> str:
        """One line on what is about to be trained."""
        rows = ", ".join(f"{name} {n:,}" for name, n in self.n_rows().items())
        task, settings, context = self.data.task, self.engine.settings, self.plan.context
        about = f"{task.kind}, {task.n_classes} labels; rows: {rows}"
        if not self.kind.trained_by_steps:
            return f"{about}; {self.kind.describe(self.backbone)}"
        return (
            f"{about}; {settings.total_steps:,} steps of {settings.batch_size} rows on "
            f"{self.accelerator.device} in {context.precision}"
        )

    def fingerprints(self) -> dict[str, str]:
        """Hashes of what decides a run's weights: of its data, and of its config.

        Where the files lie, and when scores and checkpoints are taken, may change while a run is stopped.
        """
        settings = self.config.model_dump(mode="json", exclude=MAY_CHANGE)
        config = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
        return {"data": data_fingerprint(self.data), "config": config.hexdigest()}


def choose_precision(wanted: str) -> str:
    """Return ``fp32``, ``bf16`` or ``fp16``; ``auto`` is bf16 where the processor has it natively.

    Raises:
        ConfigError: fp16 is asked for and there is no GPU.
    """
    cuda = torch.cuda.is_available()
    if wanted == "fp16" and not cuda:
        raise ConfigError('train.precision = "fp16" needs a GPU and there is none; use "bf16" or "fp32"')
    if wanted != "auto":
        return wanted
    if cuda:
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if torch.backends.mps.is_available():
        return "fp32"
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16" if native else "fp32"


def make_accelerator(precision: str) -> Any:
    """Return an accelerator of its own for this run; accumulation stays ours."""
    AcceleratorState._reset_state(reset_partial_state=False)  # a second run may want another precision
    mixed = "no" if precision == "fp32" else precision
    # Groups may begin to train later, so that some parameters have no gradient in some steps.
    handler = DistributedDataParallelKwargs(find_unused_parameters=True)
    return Accelerator(mixed_precision=mixed, kwargs_handlers=[handler])


def make_settings(config: Config, plan: Plan) -> Settings:
    """Resolve the times of a config into steps; whole epochs stay epochs, whose ends may drift."""
    train, context = config.train, plan.context
    evaluate, save = train.evaluate_every, train.save_every
    return Settings(
        epochs=train.epochs,
        total_steps=context.total_steps,
        batch_size=train.batch_size,
        micro_batch_size=train.micro_batch_size or max(batch_sizes(plan)),
        evaluate_every=0 if evaluate.whole_epochs else context.steps(evaluate),
        save_every=0 if save.whole_epochs else context.steps(save),
        log_every=max(context.steps(train.log_every), 1),
        keep_checkpoints=train.keep_checkpoints,
        cache_features=train.cache_features,
        evaluate_epochs=evaluate.whole_epochs,
        save_epochs=save.whole_epochs,
    )


def build(
    config: Config,
    *,
    reporter: Reporter | None = None,
    tables: Mapping[str, Table] | None = None,
    shared: Shared | None = None,
    metrics: Sequence[str] = (),
) -> Run:
    """Read the data, open the backbone, resolve the plan, and return a run ready to train.

    Args:
        config: what to train.
        reporter: who tells of progress.
        tables: tables in memory in the place of files, by part.
        shared: what earlier runs on the same data have read and computed; not with tables in memory.
        metrics: further ones that are computed whenever the validation part is scored.

    Raises:
        EtudeError: anything in the config, the data or the backbone that cannot be used.
    """
    reporter = reporter or Reporter()
    # What can be refused without data and weights is refused first.
    precision = choose_precision(config.train.precision)
    refuse_early(resolve_techniques(config, None))
    accelerator = make_accelerator(precision)
    kind = kind_of(config)

    def load() -> Data:
        return load_data(config, kind.loader(), reporter, tables)

    data = load() if shared is None or tables is not None else shared.data(config, load)
    held_out = None if data.validation is None else data.validation.targets.numpy()
    check_targets(data.task, config.decision, held_out)
    for warning in data.warnings:
        reporter.warn(warning)
    backbone = kind.backbone(data.task, data)
    begins_with = weights_fingerprint(backbone)
    per_epoch = -(-len(data.train) // config.train.batch_size)

    @cache
    def load_model(path: str) -> Backbone:
        return _load_teacher(path, data, accelerator)

    context = Context(
        task=data.task,
        backbone=backbone,
        class_counts=data.class_counts,
        n_rows=len(data.train),
        batch_size=config.train.batch_size,
        steps_per_epoch=per_epoch,
        total_steps=per_epoch * config.train.epochs,
        epoch_steps=(per_epoch,) * config.train.epochs,
        seed=config.seed,
        load_model=load_model,
        precision=precision,
        has_validation=data.validation is not None,
        soft_targets=data.soft_targets,
        n_unlabelled=data.n_unlabelled,
    )

    def make_techniques() -> list[Technique[Any]]:
        return resolve_techniques(config, data.task, backbone.capabilities)

    plan = build_timed_plan(make_techniques, context, data.pool, config.train.max_steps)
    for warning in [*plan.warnings, *_warn_of_idle_rows(plan), *kind.doubts(backbone, plan)]:
        reporter.warn(warning)
    kind.before_training(backbone, data, plan)
    watched = tuple(dict.fromkeys([*quick_metrics(data.task.kind, data.task.n_classes), *metrics]))

    def score_part(logits: Tensor, examples: Examples) -> Scores:
        probabilities = data.task.probabilities(logits).numpy()
        return score(data.task, probabilities, examples.targets.numpy(), names=watched)

    make_engine = Engine if kind.trained_by_steps else EstimatorEngine
    engine = make_engine(
        plan,
        backbone,
        data.pool if kind.trained_by_steps else data.train,
        accelerator,
        make_settings(config, plan),
        validation=data.validation,
        score=score_part,
        reporter=reporter,
    )
    initial = _with_initialisers(begins_with, plan)
    return Run(config, kind, data, engine.backbone, plan, engine, accelerator, initial)


def _with_initialisers(fingerprint: str, plan: Plan) -> str:
    """The hash of first weights and of the settings of techniques that give others in their place."""
    changing = [t for t in plan.techniques.values() if t.facts.family == "initialisation"]
    if not changing:
        return fingerprint
    settings = sorted(json.dumps(t.config.model_dump(mode="json"), sort_keys=True) for t in changing)
    return hashlib.sha256("".join([fingerprint, *settings]).encode()).hexdigest()[:32]


def _warn_of_idle_rows(plan: Plan) -> list[str]:
    n = plan.context.n_unlabelled
    if not n or any(technique.facts.needs_unlabelled for technique in plan.techniques.values()):
        return []
    return [
        f"{n} rows without labels are read and no technique learns from them; add "
        "[techniques.self_learning], or remove data.unlabelled"
    ]


def _load_teacher(path: str, data: Data, accelerator: Any) -> Backbone:
    folder, labels = find_model(Path(path)), data.task.labels
    metadata = read_metadata(folder)
    theirs = metadata["labels"]
    if tuple(theirs) != labels:
        raise ConfigError(
            f"the teacher {path} predicts {len(theirs)} labels that are not this task's {len(labels)} in "
            "the same order; train it on the same labels"
        )
    saved = open_saved(folder, metadata)
    saved.refuse_teaching(data, path)
    teacher = saved.backbone
    teacher.requires_grad_(requires_grad=False)
    prepared: Backbone = accelerator.prepare_model(teacher.eval(), evaluation_mode=True)
    return prepared

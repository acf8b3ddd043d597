"""Short real trainings on the tiny backbones, for checks of techniques and of their compositions.

A recipe says which techniques act, a setup says on what: :func:`train` runs the real engine and returns
the weights, in tens of milliseconds.

>>> from etude.techniques import technique_class
>>> recipe = {technique_class("label_smoothing"): {"smoothing": 0.1}}
>>> sorted(train(recipe, Setup(modality="table", epochs=1)))[:2]
['head.bias', 'head.weight']
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from numpy.typing import NDArray
from torch import Tensor

from etude.core.backbone import Backbone
from etude.core.batch import Batch
from etude.core.checkpoint import checkpoints, flatten, read_checkpoint
from etude.core.engine import Engine, Settings
from etude.core.examples import Examples
from etude.core.phases import AUGMENT, LOSS, OBSERVE, OPTIMIZER
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.task import Kind, Task
from etude.core.technique import Context, Facts, Technique, TechniqueConfig
from etude.core.timetable import batch_sizes, build_timed_plan
from etude.errors import Interrupted
from etude.techniques import technique_class
from etude.testing.tiny import tiny_backbone, tiny_examples, tiny_task

Recipe = Mapping[type[Technique[Any]], Mapping[str, Any]]
"""Technique classes with their settings; order means nothing."""
Weights = dict[str, Tensor]

TEACHER_SEED = 7


@dataclass(frozen=True, slots=True)
class Setup:
    """On what and how a recipe is trained; the default is 6 steps of 8 rows.

    Attributes:
        modality: ``"text"`` for the tiny transformer, ``"table"`` for the tiny MLP, ``"image"`` for the
            tiny ConvNet.
        kind: the kind of task.
        n_rows: training rows.
        batch_size: rows of a step.
        micro_batch_size: rows of a forward pass, or ``None`` for the whole batch.
        epochs: passes over the rows.
        max_steps: end after this many steps.
        seed: the run's seed; the first weights do not depend on it.
        dropout: rate of every dropout module.
        double: weights and numbers in float64, so that only real differences are left.
        precision: ``"no"`` or ``"bf16"`` for autocast.
        cache_features: whether features of a frozen backbone may be computed once.
        n_unlabelled: rows without labels, which there are only where a technique of the recipe needs them.
        batch_norm: whether the tiny ConvNet has BatchNorm, under which rows depend on their micro-batch.
    """

    modality: Literal["text", "table", "image"] = "text"
    kind: Kind = "multiclass"
    n_rows: int = 24
    batch_size: int = 8
    micro_batch_size: int | None = None
    epochs: int = 2
    max_steps: int | None = None
    seed: int = 0
    dropout: float = 0.0
    double: bool = False
    precision: Literal["no", "bf16"] = "no"
    cache_features: bool = True
    n_unlabelled: int = 16
    batch_norm: bool = True


def complete(recipe: Recipe, kind: Kind) -> dict[type[Technique[Any]], Mapping[str, Any]]:
    """Return the recipe with what its techniques require, and with an optimizer and a loss if it has none.

    These are AdamW and the task's loss.
    """
    whole = dict(recipe)
    for technique in recipe:
        for name in sorted(technique.facts.requires):
            whole.setdefault(technique_class(name), {})
    phases = [technique.facts.phase for technique in recipe]
    if OPTIMIZER not in phases:
        whole[technique_class("adamw")] = {"lr": 0.01}
    if LOSS not in phases:
        whole[technique_class(tiny_task(kind).default_loss)] = {}
    return whole


def make(technique: type[Technique[Any]], settings: Mapping[str, Any]) -> Technique[Any]:
    """Return the technique with its example's values, overridden by the settings."""
    return technique(technique.Config(**{"name": technique.key(), **technique.facts.example, **settings}))


def make_engine(recipe: Recipe, setup: Setup, *, train: Examples | None = None, **more: Any) -> Engine:
    """Return an engine that is ready to train.

    Args:
        recipe: the techniques; see :func:`complete` for what is added.
        setup: on what and how.
        train: other training rows than the tiny ones; with rows without labels these come last.
        more: further arguments of the engine; a technique that needs a validation part is given the
            training rows as one, unless another is among these.

    Raises:
        ConfigError: the recipe is refused.
    """
    task = tiny_task(setup.kind)
    n_unlabelled = setup.n_unlabelled if any(t.facts.needs_unlabelled for t in recipe) else 0
    if train is None:
        train = tiny_examples(setup.modality, task, setup.n_rows, n_unlabelled=n_unlabelled)
    n_rows = len(train) - n_unlabelled
    examples: Examples = _InDouble(train) if setup.double else train

    def backbone(seed: int = 0) -> Backbone:
        more: dict[str, Any] = {"batch_norm": setup.batch_norm} if setup.modality == "image" else {}
        made = tiny_backbone(setup.modality, task, dropout=setup.dropout, seed=seed, **more)
        return made.double() if setup.double else made

    def load_model(path: str) -> Backbone:
        return backbone(TEACHER_SEED)

    steps_per_epoch = -(-n_rows // setup.batch_size)
    context = Context(
        task=task,
        backbone=backbone(),
        class_counts=examples.targets.sum(dim=0).numpy(),
        n_rows=n_rows,
        n_unlabelled=n_unlabelled,
        batch_size=setup.batch_size,
        steps_per_epoch=steps_per_epoch,
        total_steps=setup.epochs * steps_per_epoch,
        seed=setup.seed,
        load_model=load_model,
        precision="bf16" if setup.precision == "bf16" else "fp32",
        epoch_steps=(steps_per_epoch,) * setup.epochs,
    )

    def techniques() -> list[Technique[Any]]:
        return [make(technique, said) for technique, said in complete(recipe, setup.kind).items()]

    plan = build_timed_plan(techniques, context, examples, setup.max_steps)
    settings = Settings(
        epochs=setup.epochs,
        total_steps=plan.context.total_steps,
        batch_size=setup.batch_size,
        micro_batch_size=setup.micro_batch_size or max(batch_sizes(plan)),
        evaluate_every=0,
        save_every=0,
        log_every=3,
        # Cached features are float32, which a head in float64 does not take.
        cache_features=setup.cache_features and not setup.double,
    )
    if any(technique.facts.needs_validation for technique in recipe):
        more = {"validation": examples, "score": lambda logits, rows: _scores(task, logits, rows), **more}
    return Engine(plan, context.backbone, examples, _accelerator(setup.precision), settings, **more)


def _scores(task: Task, logits: Tensor, examples: Examples) -> dict[str, float]:
    """The share of right labels, by the name of the task's main metric."""
    right = task.decide(task.probabilities(logits).numpy()) == (examples.targets.numpy() >= 0.5)
    return {task.main_metric: float(right.mean())}


def _accelerator(precision: str) -> Any:
    AcceleratorState._reset_state(reset_partial_state=False)  # engines of two precisions in one process
    # Groups may begin to train later, so that some parameters have no gradient in some steps.
    handler = DistributedDataParallelKwargs(find_unused_parameters=True)
    return Accelerator(cpu=True, mixed_precision=precision, kwargs_handlers=[handler])


def weights(engine: Engine) -> Weights:
    """Return copies of the raw weights, and as ``kept.*`` of those that would be saved."""
    found = {name: value.clone() for name, value in engine.backbone.state_dict().items()}
    with engine.final_weights():
        kept = {f"kept.{name}": value.clone() for name, value in engine.backbone.state_dict().items()}
    return {**found, **kept}


def train(recipe: Recipe, setup: Setup) -> Weights:
    """Train to the end and return the weights."""
    engine = make_engine(recipe, setup)
    engine.fit()
    return weights(engine)


def train_and_return_state(recipe: Recipe, setup: Setup) -> Mapping[str, Any]:
    """Train to the end and return every tensor and number of the engine's state, by its path."""
    engine = make_engine(recipe, setup)
    engine.fit()
    return _flat_state(engine)


def train_with_a_stop(recipe: Recipe, setup: Setup, folder: Path, step: int) -> Mapping[str, Any]:
    """Stop after a step, go on from the checkpoint on disk with a new engine, and return its state.

    Raises:
        ValueError: training ended before the stop.
    """
    first = make_engine({**recipe, StopAt: {"step": step}}, setup)
    first.attach_folder(log=None, checkpoints=folder)
    try:
        first.fit()
    except Interrupted:
        second = make_engine(recipe, setup)
        second.load_state(read_checkpoint(checkpoints(folder)[-1]))
        second.fit()
        return _flat_state(second)
    raise ValueError(f"training ended before step {step}")


def _flat_state(engine: Engine) -> Mapping[str, Any]:
    tensors, numbers = flatten(engine.state())
    return {**tensors, **numbers}


class _InDouble:
    """Examples whose numbers are float64."""

    def __init__(self, examples: Examples) -> None:
        self.targets, self.weights, self.lengths = examples.targets, examples.weights, examples.lengths
        self._examples = examples

    def __len__(self) -> int:
        return len(self._examples)

    def inputs(self, rows: NDArray[np.int64]) -> dict[str, Tensor]:
        """Return the inputs of some rows, in float64 where they are no integers."""
        found = self._examples.inputs(rows)
        return {name: v.double() if v.is_floating_point() else v for name, v in found.items()}


class StopAtConfig(TechniqueConfig):
    """Settings of the stop."""

    name: Literal["stop_at"] = "stop_at"
    step: int


class StopAt(Technique[StopAtConfig]):
    """Asks for a stop after a step, as a signal would."""

    Config = StopAtConfig
    facts = Facts(family="testing", phase=OBSERVE, paper="")

    def attach(self, plan: Plan) -> None:
        plan.add(OBSERVE, self)

    def on_start(self, run: Engine) -> None:
        """Do nothing."""

    def on_step(self, run: Engine) -> None:
        """Ask for the stop."""
        if run.step == self.config.step:
            run.request_stop(f"stopped after step {run.step}")

    def on_epoch(self, run: Engine) -> None:
        """Do nothing."""

    def on_evaluation(self, run: Engine, scores: Mapping[str, float]) -> None:
        """Do nothing."""

    def on_end(self, run: Engine) -> None:
        """Do nothing."""


class OnlookerConfig(TechniqueConfig):
    """Settings of the onlooker: there are none."""

    name: Literal["onlooker"] = "onlooker"


class Onlooker(Technique[OnlookerConfig]):
    """Sees each step's batch first, keeps it with a copy, draws random numbers and changes nothing."""

    Config = OnlookerConfig
    facts = Facts(family="testing", phase=AUGMENT, paper="")

    def __init__(self, config: OnlookerConfig) -> None:
        super().__init__(config)
        self.seen: list[tuple[Batch, Batch]] = []

    def attach(self, plan: Plan) -> None:
        def look(batch: Batch, moment: Moment) -> Batch:
            torch.rand(1 + moment.step)
            torch.rand(3, generator=moment.torch("onlooker"))
            moment.numpy("onlooker").random(3)
            self.seen.append((batch, _copy(batch)))
            return batch

        plan.add(AUGMENT, look, rank=-1000)


def _copy(batch: Batch) -> Batch:
    inputs = {name: value.clone() for name, value in batch.inputs.items()}
    return Batch(inputs, batch.targets.clone(), batch.weights.clone(), batch.index.clone())

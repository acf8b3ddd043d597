"""Steps of a built run outside of its engine's loop, and everything put back afterwards.

A finder asks what a run *would* do: it takes steps with the run's own model, optimizer and techniques, and
leaves them bit for bit as they were. Random draws are keyed by the moment, so that there is no random state
of ours to put back; torch's own generator is, since dropout of foreign modules draws from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any

import torch
from torch import Tensor, nn

from etude.config.run import Config
from etude.core.batch import Batch
from etude.core.engine import Engine
from etude.core.feed import FeatureCache, Feed, make_batch, start_model
from etude.core.groups import Freezer
from etude.core.phases import Phase
from etude.core.plan import Plan
from etude.core.rates import Rates
from etude.core.rng import Moment
from etude.core.step import Step
from etude.core.timetable import moment_of_epoch
from etude.errors import ConfigError

PLAIN = (bool, int, float, str, tuple, type(None))


def refuse_without_steps(config: Config, what: str) -> None:
    """Raise :class:`ConfigError` where the model is fitted in one piece and takes no optimizer steps."""
    if config.backbone.kind in ("linear", "trees"):
        kind = config.backbone.kind
        raise ConfigError(
            f'{what} is for networks, which train by optimizer steps, and a model of kind "{kind}" does not; '
            "its own settings are searched by etude tune"
        )


class PartOf(Plan):
    """A plan without the techniques that contribute to some phases; no part of them is left."""

    def __init__(self, plan: Plan, *left_out: Phase[Any]) -> None:
        super().__init__(plan.context)
        self.techniques = plan.techniques
        gone = {entry.technique for entry in plan.entries() if entry.phase in left_out}
        self._entries = [entry for entry in plan.entries() if entry.technique not in gone]


class Probe:
    """The parts of a run that take its steps.

    Args:
        engine: of a run that was built and not trained.
        plan: in place of the engine's.
        optimizer: in place of the engine's.

    Attributes:
        step: one optimizer step.
        groups: the optimizer's groups, whose ``lr`` the next step takes.
    """

    def __init__(self, engine: Engine, *, plan: Plan | None = None, optimizer: Any = None) -> None:
        self.engine, self._plan = engine, plan or engine.plan
        self._optimizer = engine.optimizer if optimizer is None else optimizer
        settings, backbone, accelerator = engine.settings, engine.backbone, engine.accelerator
        self._freezer = Freezer(backbone, engine.groups)
        self._feed = Feed(self._plan, engine.train, settings.batch_size)
        self._features = FeatureCache(
            engine.plan, self._freezer, engine.model, accelerator, engine.reporter, on=settings.cache_features
        )
        self.step = Step(
            self._plan, backbone, engine.model, self._optimizer, accelerator, settings.micro_batch_size
        )

    @property
    def groups(self) -> list[dict[str, Any]]:
        """The engine's parameter groups; loading a state puts others in their place."""
        groups: list[dict[str, Any]] = self.engine.optimizer.param_groups
        return groups

    def stage_starts(self) -> list[int]:
        """The steps at which more of the model begins to train, 0 first."""
        starts = {group.frozen_until for group in self.engine.groups} | {0}
        return sorted(step for step in starts if step < self.engine.settings.total_steps)

    def thaw(self, step: int) -> None:
        """Let those blocks train that do at a step of the run."""
        self._freezer.apply(step)
        self._features.refresh()

    def start(self) -> None:
        """Stand where the run's first step is taken, with the head that it starts from."""
        self.thaw(0)
        start_model(self.engine.plan, self.engine.backbone, self.engine.train, self._features)

    def batches(self, first: int) -> Iterator[tuple[Batch, Moment]]:
        """Yield the run's macro-batches from a step on without end: after its last from that step again."""
        context, total = self.engine.plan.context, self.engine.settings.total_steps
        while True:
            step, epoch, before = first, 0, 0
            while before + context.steps_in(epoch) <= first:
                before, epoch = before + context.steps_in(epoch), epoch + 1
            position = first - before
            while step < total and epoch < self.engine.settings.epochs:
                view, rows = self._feed.epoch(moment_of_epoch(context, epoch))
                for taken in rows[position:][: total - step]:
                    moment = Moment(context.seed, step, epoch, context.steps_in(epoch), total)
                    yield make_batch(self._features.of(self.engine.train), view, taken), moment
                    step += 1
                epoch, position = epoch + 1, 0

    def train(self, steps: int) -> None:
        """Take the run's first steps as it would, up to the given number of them."""
        rates, thaws = Rates(self.engine.plan, self.engine.settings.total_steps), self.stage_starts()
        batches = self.batches(0)
        for step in range(steps):
            if step in thaws:
                self.thaw(step)
            batch, moment = next(batches)
            rates.set(self.groups, moment)
            self.step(batch, moment)


@contextmanager
def untouched(engine: Engine) -> Iterator[None]:
    """Put the model, the optimizer and the techniques back on leaving, bit for bit."""
    backbone, scaler = engine.backbone, engine.accelerator.scaler
    optimizer = getattr(engine.optimizer, "optimizer", engine.optimizer)
    modules = [(module, _plain(module), dict(module._buffers)) for module in backbone.modules()]
    values = {id(v): (v, v.detach().clone(), v.requires_grad) for v in _tensors(backbone)}
    groups = [{key: copy(value) for key, value in group.items() if key != "params"} for group in
              optimizer.param_groups]  # fmt: skip
    moments = {key: _copied(value) for key, value in optimizer.state.items()}
    techniques = [(t, _copied(t.state_dict()), _own(vars(t))) for t in engine.plan.techniques.values()]
    scale, drawn = None if scaler is None else scaler.state_dict(), torch.get_rng_state()
    try:
        yield
    finally:
        for technique, state, own in techniques:
            technique.load_state_dict(state)
            vars(technique).update(_own(own))
        for module, plain, buffers in modules:
            vars(module).update(plain)
            module._buffers.update(buffers)
        for value, before, trains in values.values():
            value.detach().copy_(before)
            value.requires_grad_(trains)
            value.grad = None
        optimizer.state.clear()
        optimizer.state.update(moments)
        for group, before_group in zip(optimizer.param_groups, groups, strict=True):
            for key in set(group) - set(before_group) - {"params"}:
                del group[key]
            group.update(before_group)
        if scaler is not None:
            scaler.load_state_dict(scale)
        torch.set_rng_state(drawn)


def _tensors(backbone: nn.Module) -> Iterator[Tensor]:
    yield from backbone.parameters()
    yield from backbone.buffers()


def _plain(module: nn.Module) -> dict[str, Any]:
    """The numbers of a module that a technique may change: its mode, a dropout's rate."""
    return {key: value for key, value in vars(module).items() if isinstance(value, PLAIN)}


def _own(attributes: dict[str, Any]) -> dict[str, Any]:
    """What a technique remembers beside its state: numbers, tensors, and lists and tables of them."""
    return {
        key: _copied(value)
        for key, value in attributes.items()
        if isinstance(value, (*PLAIN, list, dict, Tensor))
    }


def _copied(value: Any) -> Any:
    """Tensors are copied, tables and lists as deep as they go; everything else stays the same object."""
    match value:
        case nn.Parameter():
            return value
        case Tensor():
            return value.detach().clone()
        case dict():
            return {key: _copied(inner) for key, inner in value.items()}
        case list():
            return [_copied(inner) for inner in value]
    return value

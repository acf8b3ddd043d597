"""The engine: epochs, evaluations, checkpoints. What one step does stands in ``step.py``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from etude.core import phases
from etude.core.backbone import Backbone
from etude.core.checkpoint import save_checkpoint
from etude.core.examples import Examples
from etude.core.feed import FeatureCache, Feed, make_batch, show, start_model
from etude.core.groups import Freezer, make_groups
from etude.core.memory import step_within_memory
from etude.core.observe import Reporter
from etude.core.phases import Rows, View
from etude.core.plan import Plan
from etude.core.predict import predict
from etude.core.rates import Rates
from etude.core.rng import Moment
from etude.core.step import Step, StepResult
from etude.core.timetable import moment_of_epoch
from etude.errors import ConflictError, Interrupted

Score = Callable[[Tensor, Examples], dict[str, float]]
Log = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Settings:
    """How long and how often; times are in optimizer steps.

    ``evaluate_epochs`` and ``save_epochs`` count epochs and act at the ends of them, wherever these lie.
    Where both numbers are 0, it is done only at the end of the run.
    """

    epochs: int
    total_steps: int
    batch_size: int
    micro_batch_size: int
    evaluate_every: int
    save_every: int
    log_every: int
    keep_checkpoints: int = 2
    cache_features: bool = True
    evaluate_epochs: int = 0
    save_epochs: int = 0


class Engine:
    """Trains a backbone by a plan.

    Attributes:
        step: optimizer steps done.
        epoch: the running epoch, from 0.
        position: macro-batches of the running epoch that are done.
        skipped: steps left out in a row, up to now, since something was not finite.
        optimizer, loss, reporter: torch's optimizer; the latest step's loss, on the device; who is told.
    """

    def __init__(
        self,
        plan: Plan,
        backbone: Backbone,
        train: Examples,
        accelerator: Any,
        settings: Settings,
        *,
        validation: Examples | None = None,
        score: Score | None = None,
        reporter: Reporter | None = None,
    ) -> None:
        for edit in plan.many(phases.MODEL):
            backbone = edit(backbone)
        self.plan, self.backbone, self.settings = plan, backbone, settings
        self.train, self.validation, self.accelerator = train, validation, accelerator
        self.step = self.epoch = self.position = self.skipped = 0
        self._score, self.reporter = score, reporter or Reporter()
        self._log: Log = _silent
        self._checkpoints: Path | None = None
        self._extra_state: Mapping[str, Any] = {}
        self._seed = plan.context.seed
        spec = plan.one(phases.OPTIMIZER)
        if spec is None:
            raise ConflictError('no optimizer is chosen; add [optimizer] with name = "adamw"')
        self.groups = make_groups(backbone, plan.many(phases.GROUPS), spec, plan.context)
        backbone.to(accelerator.device)
        optimizer = spec.make([group.for_optimizer() for group in self.groups])
        self.model, prepared = accelerator.prepare(backbone, optimizer)
        # The wrapper is there for the gradient scaler, and inspects signatures at every step.
        self.optimizer = optimizer if accelerator.scaler is None else prepared
        self._rates = Rates(plan, settings.total_steps)
        self._average = plan.one(phases.AVERAGE)
        self._observers = plan.many(phases.OBSERVE)
        self._freezer = Freezer(backbone, self.groups)
        self._step = Step(plan, backbone, self.model, self.optimizer, accelerator, settings.micro_batch_size)
        self._feed = Feed(plan, train, settings.batch_size)
        self._features = FeatureCache(
            plan, self._freezer, self.model, accelerator, self.reporter, on=settings.cache_features
        )
        self._loss_sum, self._loss_count = torch.zeros((), device=accelerator.device), 0
        self.loss = self._loss_sum.clone()
        self._evaluated = -1
        self._stop = self._note = ""
        self._wants: set[str] = set()

    def attach_folder(
        self, *, log: Log | None, checkpoints: Path | None, extra_state: Mapping[str, Any] | None = None
    ) -> None:
        """Say where metrics and checkpoints go, and what else each checkpoint holds."""
        self._log, self._checkpoints = log or _silent, checkpoints
        self._extra_state = extra_state or {}

    def log(self, record: Mapping[str, Any]) -> None:
        """Add a record to the run's metrics, with the step and the epoch."""
        self._log({"step": self.step, "epoch": self.epoch, **record})

    # Requests, by observers and by the signal handler.

    def request_stop(self, reason: str) -> None:
        """End training after the running step, with a checkpoint."""
        self._stop = reason

    def request(self, what: str) -> None:
        """Ask for ``"evaluate"`` or ``"save"`` after the running step."""
        self._wants.add(what)

    def fit(self) -> None:
        """Train to the end, from wherever the engine stands.

        Raises:
            Interrupted: somebody asked for a stop; a checkpoint was written.
        """
        self._freezer.apply(self.step)
        self._features.refresh()
        if self.step == 0 and self.position == 0:
            start_model(self.plan, self.backbone, self.train, self._features)
        for observer in self._observers:
            observer.on_start(self)
        while self.epoch < self.settings.epochs and not self._ended():
            self._one_epoch()
        self._finish()

    def _finish(self) -> None:
        if self._evaluated != self.step:
            self.evaluate()
        if self._average is not None and self._average.settle(self):
            self.evaluate()
        self.save()
        for observer in self._observers:
            observer.on_end(self)

    def moment(self) -> Moment:
        """Where training stands."""
        steps = self.plan.context.steps_in(self.epoch)
        return Moment(self._seed, self.step, self.epoch, steps, self.settings.total_steps)

    def _one_epoch(self) -> None:
        view, batches = self._feed.epoch(moment_of_epoch(self.plan.context, self.epoch))
        with self.reporter.bar(
            f"epoch {self.epoch + 1}/{self.settings.epochs}", len(batches), "steps"
        ) as bar:
            bar.advance(self.position)
            for rows in batches[self.position :]:
                self._one_step(rows, view, last=self.position + 1 == len(batches))
                bar.advance(1, self._note)
                if self._ended() and self.position < len(batches):
                    return
        self.epoch, self.position = self.epoch + 1, 0
        for observer in self._observers:
            observer.on_epoch(self)

    def _ended(self) -> bool:
        return self.step >= self.settings.total_steps

    def _one_step(self, rows: Rows, view: View, *, last: bool) -> None:
        if self._freezer.changes_at(self.step):
            self._freezer.apply(self.step)
            self._features.refresh()
        moment = self.moment()
        self._rates.set(self.optimizer.param_groups, moment)
        batch = make_batch(self._features.of(self.train), view, rows)
        result = step_within_memory(self._step, batch, moment, self.reporter)
        self.position, self.loss = self.position + 1, result.loss
        if result.done:
            self.step, self.skipped = self.step + 1, 0
            self._loss_sum += result.loss
            self._loss_count += 1
        else:
            self.skipped += 1
            self.reporter.warn(f"step {self.step + 1} was skipped: its loss or gradient is not finite")
        self._after_step(result, last=last)

    def _after_step(self, result: StepResult, *, last: bool) -> None:
        for observer in self._observers:
            observer.on_step(self)
        settings = self.settings
        if result.done and self.step % settings.log_every == 0:
            self._log_loss(result)

        def due(steps: int, epochs: int) -> bool:
            at_step = result.done and steps > 0 and self.step % steps == 0
            return at_step or (last and epochs > 0 and (self.epoch + 1) % epochs == 0)

        evaluate = due(settings.evaluate_every, settings.evaluate_epochs) and self._evaluated != self.step
        if evaluate or "evaluate" in self._wants:
            self.evaluate()
        save = due(settings.save_every, settings.save_epochs) and not self._ended()
        if save or "save" in self._wants or self._stop:
            self.save()
        self._wants.clear()
        if self._stop:
            raise Interrupted(self._stop)

    def _log_loss(self, result: StepResult) -> None:
        loss = float(self._loss_sum) / max(self._loss_count, 1)
        self._loss_sum.zero_()
        self._loss_count = 0
        self._note = f"loss {loss:.4f}"
        record: dict[str, Any] = {"train": {"loss": loss}}
        record["lr"] = {group["name"]: group["lr"] for group in self.optimizer.param_groups}
        if result.grad_norm is not None:
            record["grad_norm"] = float(result.grad_norm)
        self.log(record)

    def final_weights(self) -> AbstractContextManager[None]:
        """Within this context the model has the weights to keep: the average's, where there is one."""
        return self._average.lend(self.backbone) if self._average is not None else nullcontext()

    def scores(self) -> dict[str, float]:
        """Score the validation part with the weights as they are; empty where there is none."""
        if self.validation is None or self._score is None:
            return {}
        examples = self._features.of(self.validation)
        logits = predict(self.model, examples, self.accelerator, reporter=self.reporter, title="validation")
        return self._score(logits, self.validation)

    def show_training_rows(self) -> None:
        """Run the training rows through the model, in the mode in which it trains, without gradients."""
        show(self.plan, self.model, self._features.of(self.train), self.accelerator, self.reporter)

    def evaluate(self) -> dict[str, float]:
        """Score the validation part with the weights to keep, and log the scores."""
        self._evaluated = self.step
        with self.final_weights():
            scores = self.scores()
        if not scores:
            return {}
        self.log({"validation": scores})
        for observer in self._observers:
            observer.on_evaluation(self, scores)
        return scores

    def state(self) -> dict[str, Any]:
        """Everything that a resumed run needs."""
        scaler = self.accelerator.scaler
        optimizer = self.optimizer.state_dict()["state"]
        return {
            "engine": {"step": self.step, "epoch": self.epoch, "position": self.position,
                       "loss_sum": self._loss_sum, "loss_count": self._loss_count, "skipped": self.skipped,
                       "evaluated": self._evaluated, "micro_batch_size": self._step.micro_batch_size},
            "model": self.backbone.state_dict(),
            "optimizer": {str(i): state for i, state in optimizer.items()},
            "techniques": {name: t.state_dict() for name, t in self.plan.techniques.items()},
            "scaler": scaler.state_dict() if scaler is not None else {},
            **self._extra_state,
        }  # fmt: skip

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go to where the state was taken."""
        mine = state["engine"]
        self.step, self.epoch, self.position = mine["step"], mine["epoch"], mine["position"]
        self._loss_sum.copy_(mine["loss_sum"])
        self._loss_count, self._evaluated = mine["loss_count"], mine["evaluated"]
        self.skipped = mine["skipped"]
        self._step.micro_batch_size = mine["micro_batch_size"]
        self.backbone.load_state_dict(state["model"])
        groups = self.optimizer.state_dict()["param_groups"]
        moments = {int(i): value for i, value in state.get("optimizer", {}).items()}
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        for name, technique in self.plan.techniques.items():
            technique.load_state_dict(state.get("techniques", {}).get(name, {}))
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])

    def save(self) -> None:
        """Write a checkpoint, from the first process."""
        if self._checkpoints is not None and self.accelerator.is_main_process:
            save_checkpoint(self._checkpoints, self.step, self.state(), self.settings.keep_checkpoints)
        self.accelerator.wait_for_everyone()


def _silent(record: Mapping[str, Any]) -> None:
    """The log of an engine whose caller keeps none."""

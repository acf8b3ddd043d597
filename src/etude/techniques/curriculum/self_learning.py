"""Self-learning: learn from rows without labels, the most confident first and more in every epoch.

Idea: what the model is sure of is mostly right. It first learns the labelled rows; then rows without
labels join them under the labels that the model itself gives them, a growing quantile of the most
confident, and all are labelled anew at the end of each epoch.

Formula, for round r = 1, 2, .., U rows without labels and p(x) the model's probabilities when the round
begins:

* share_r = min(max((r - start) / (end - start), 0), 1), which for start 1 and end 5 is 0, 1/4, 1/2, 3/4,
  1, 1, ..
* the round(share_r * U) rows of the highest confidence join: max_c p_c, and for several labels the mean of
  max(p_c, 1 - p_c)
* their target is the decision on p(x) (hard) or p(x) itself (soft), and their weight is ``weight``

Paper: Cascante-Bonilla et al. 2021 (2001.06001), algorithm 1, curriculum labelling; Lee 2013,
Pseudo-label, ICML workshop; Soviany et al. 2022 (2101.10382), survey of curricula.

When it helps: few labelled rows and many without labels from the same source; a model that is right far
more often than not. Augmentation and dropout in training make it stronger.
When not: labelled rows that suffice; rows of classes that the labels do not have; a weak first model,
whose mistakes come back as labels.

Suggested values: begin when the labelled rows are learned, and let the learning rate fall: of ten epochs
start 5 and end 9, with augmentation (``docs/mnist.md`` has the measurements). Start 1 and end 5, the
defaults, are the source document's, and too early where one epoch does not suffice. The paper has
restart = true, start 1, end 6 (a fifth more each round), and as many epochs in ``every`` as a training
takes; it warns that without the restart mistakes stay.

Cost: an epoch is longer by the rows that joined, and every round begins with predictions for all rows
without labels. Memory of C numbers for each such row; with restart the first weights once more.

Clashes: oversample, which repeats rows by their labels: how many there will be must be known before
training. With soft labels, techniques that need hard targets.

NOTE[DIFF]: rows and not a threshold at a quantile decide, so that ties add no row and the length of each
epoch is known before training.
NOTE[DIFF]: the labels come from the weights as they are, also where an average is kept beside them.
NOTE[DIFF]: with restart a round begins with the first weights, no moments in the optimizer, the learning
rate at the start of its warm-up and schedule, stretched over the round, and averages empty. What is
said in epochs of the run stays so: freezes and curricula do not begin again. The random draws of a round
are its own.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import model_validator
from torch import Tensor

from etude.config.fields import setting
from etude.core.phases import DATA, OBSERVE, TUNE, Rows, View
from etude.core.plan import Plan
from etude.core.predict import Subset, predict
from etude.core.rates import Rates
from etude.core.rng import Moment
from etude.core.technique import Context, Facts, Technique, TechniqueConfig
from etude.core.timetable import timed
from etude.errors import ConflictError

LAST = 100
"""The rank behind all that choose among the labelled rows."""
FIRST = -100
"""The rank in front of all that change the learning rate of a step."""
NEVER = 1_000_000


class SelfLearningConfig(TechniqueConfig):
    """Settings of the curriculum of rows without labels."""

    name: Literal["self_learning"] = "self_learning"
    start: int = setting(1, help="the last round, counted from 1, with labelled rows alone", ge=1)
    end: int = setting(5, help="the round from which on all rows without labels are used", ge=2)
    every: int = setting(1, help="epochs in a round, which begins with new labels", unit="epochs", ge=1)
    labels: Literal["hard", "soft"] = setting("hard", help="decisions of the model, or its probabilities")
    weight: float = setting(1.0, help="weight of a row without a label beside 1 of a labelled one", gt=0.0)
    restart: bool = setting(False, help="begin every round with the first weights, as the paper does")

    @model_validator(mode="after")
    def _ends_after_the_start(self) -> Self:
        if self.end <= self.start:
            raise ValueError(f"end is {self.end} and must lie behind start, which is {self.start}")
        return self


def share_of_round(number: int, start: int, end: int) -> float:
    """Return the share of the rows without labels that a round uses.

    Args:
        number: of the round, counted from 1.
        start: the last round without any of them.
        end: the first round with all of them.

    Raises:
        ValueError: ``number`` is below 1, or ``end`` is not behind ``start``.

    >>> [share_of_round(number, 1, 5) for number in range(1, 8)]
    [0.0, 0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    """
    if number < 1 or end <= start:
        raise ValueError(f"number is {number}, start {start} and end {end}: expected 1 or more, start < end")
    return min(max((number - start) / (end - start), 0.0), 1.0)


def confidences(probabilities: Tensor, *, several: bool) -> Tensor:
    """Return how sure the model is of each row (U,), from its probabilities (U, C).

    Args:
        probabilities: of each label.
        several: whether a row may have several labels, each of them yes or no.

    >>> confidences(torch.tensor([[0.9, 0.1], [0.4, 0.6]]), several=False)
    tensor([0.9000, 0.6000])
    >>> confidences(torch.tensor([[0.9, 0.2]]), several=True)
    tensor([0.8500])
    """
    if several:
        return torch.maximum(probabilities, 1.0 - probabilities).mean(dim=1)
    return probabilities.max(dim=1).values


def most_confident(confidence: Tensor, n: int) -> Rows:
    """Return the positions of the ``n`` highest confidences (U,), ascending; of equal ones the first.

    Raises:
        ValueError: there are fewer than ``n``.

    >>> most_confident(torch.tensor([0.5, 0.9, 0.5, 0.7]), 3).tolist()
    [0, 1, 3]
    """
    if not 0 <= n <= len(confidence):
        raise ValueError(f"n is {n} and there are {len(confidence)} rows")
    order = np.argsort(-confidence.numpy(), kind="stable")
    return np.sort(order[:n]).astype(np.int64)


class SelfLearning(Technique[SelfLearningConfig]):
    """Labels the rows without labels at the end of each round, and adds the surest to the next ones."""

    Config = SelfLearningConfig
    facts = Facts(
        family="curriculum",
        phase=DATA,
        paper="Cascante-Bonilla et al. 2021, arXiv 2001.06001; Lee 2013, ICML workshop",
        needs_unlabelled=True,
        clashes={
            "oversample": "it repeats rows by their labels, which rows without labels get only in training, "
            "and the number of steps must be known before; use weighted_sampling, or remove one of them"
        },
        neutral={"start": NEVER, "end": NEVER + 1},
    )

    def __init__(self, config: SelfLearningConfig) -> None:
        super().__init__(config)
        self._context: Context | None = None
        self._told: Tensor | None = None
        self._lengths: NDArray[np.int64] | None = None
        self._first: dict[str, Tensor | int | float | str] = {}
        self._begun = 0

    def attach(self, plan: Plan) -> None:
        context, config = plan.context, self.config
        counts = [self._count(context, epoch) for epoch in range(context.epochs)]
        if config.start == NEVER:
            return
        self._context = context
        if len(set(counts)) == 1:
            plan.warnings.append(
                f"self_learning uses no row without a label in {context.epochs} epochs, since start is "
                f"{config.start} and every is {config.every}; train longer, or lower them"
            )
        plan.notes.append(f"self_learning: rows without labels in each epoch: {', '.join(map(str, counts))}")

        def add(view: View, moment: Moment) -> View:
            n = self._count(context, moment.epoch)
            return view if n == 0 else self._add(view, context, n)

        plan.add(DATA, add, rank=LAST)
        plan.add(OBSERVE, self)
        if config.restart:
            plan.add(TUNE, self._tune(plan), rank=FIRST)

    def _count(self, context: Context, epoch: int) -> int:
        """The rows without labels that an epoch, counted from 0, shows."""
        share = share_of_round(epoch // self.config.every + 1, self.config.start, self.config.end)
        return round(share * context.n_unlabelled)

    def _add(self, view: View, context: Context, n: int) -> View:
        if self._told is None:  # before training, where only the number of rows is asked
            chosen, targets = np.arange(n), torch.zeros(n, context.task.n_classes)
        else:
            several = context.task.kind == "multilabel"
            chosen = most_confident(confidences(self._told, several=several), n)
            targets = self._targets(context, chosen)
        lengths = np.ones(context.n_unlabelled, np.int64) if self._lengths is None else self._lengths
        return View(
            np.concatenate([view.rows, context.n_rows + chosen]),
            torch.cat([view.targets, targets.to(view.targets)]),
            torch.cat([view.weights, torch.full((n,), self.config.weight).to(view.weights)]),
            np.concatenate([view.lengths, lengths[chosen]]),
        )

    def _targets(self, context: Context, chosen: Rows) -> Tensor:
        """The targets (n, C) of some rows without labels."""
        if self._told is None:
            raise ValueError("nothing was predicted yet")
        told = self._told[torch.from_numpy(chosen)]
        if self.config.labels == "soft":
            return told
        return torch.from_numpy(context.task.decide(told.numpy())).float()

    def _tune(self, plan: Plan) -> Any:
        """The learning rate of a round: that of a run as long as the round."""
        known: dict[int, Rates] = {}

        def tune(groups: Sequence[dict[str, Any]], moment: Moment) -> None:
            number = moment.epoch // self.config.every
            total = sum(map(plan.context.steps_in, self._epochs_of(number)))
            if number not in known:
                alone = copy.copy(plan)
                steps = tuple(map(plan.context.steps_in, self._epochs_of(number)))
                alone.context = timed(plan.context, steps, None)
                known[number] = Rates(alone, total)
            factor = known[number].factor(min(max(moment.step - self._begun, 0), total))
            for group in groups:
                group["lr"] = group["base_lr"] * factor

        return tune

    def _epochs_of(self, number: int) -> range:
        """The epochs of a round, counted from 0."""
        last = 0 if self._context is None else self._context.epochs
        return range(number * self.config.every, min((number + 1) * self.config.every, last))

    def on_start(self, run: Any) -> None:
        """Keep the first weights for restarts, and refuse soft labels where others need hard ones.

        Raises:
            ConflictError: a technique needs hard targets.
        """
        if self.config.labels == "soft":
            for name, technique in run.plan.techniques.items():
                if not technique.facts.accepts_soft_targets:
                    raise ConflictError(
                        f'self_learning makes targets soft and {name} needs hard ones; set labels = "hard", '
                        "or remove one of them"
                    )
        self._lengths = run.train.lengths[run.plan.context.n_rows :]
        if self.config.restart and not self._first:
            self._first = self._snapshot(run)

    def on_step(self, run: Any) -> None:
        """Rounds end with epochs."""

    def on_epoch(self, run: Any) -> None:
        """Where a round begins, label the rows without labels, and restart if that is asked for."""
        if run.epoch >= run.settings.epochs or run.step >= run.settings.total_steps:
            return
        if run.epoch % self.config.every != 0 or self._context is None:
            return
        n = self._count(self._context, run.epoch)
        if n > 0:
            self._tell(run, self._context, n)
        if self.config.restart:
            self._restart(run)

    def _tell(self, run: Any, context: Context, n: int) -> None:
        """Predict all rows without labels, and log how sure the surest ``n`` are."""
        rows = np.arange(context.n_rows, len(run.train))
        logits = predict(
            run.model, Subset(run.train, rows), run.accelerator, reporter=run.reporter, title="own labels"
        )
        self._told = context.task.probabilities(logits)
        several = context.task.kind == "multilabel"
        sure = confidences(self._told, several=several).sort(descending=True).values[:n]
        found = {"rows": n, "least_confidence": float(sure[-1]), "mean_confidence": float(sure.mean())}
        run.log({"self_learning": found})

    def _snapshot(self, run: Any) -> dict[str, Tensor | int | float | str]:
        """The state that a round begins with: weights, and what schedules, averages and clips keep."""
        first: dict[str, Tensor | int | float | str] = {
            f"first.model.{name}": value.detach().cpu().clone()
            for name, value in run.backbone.state_dict().items()
        }
        for name, technique in self._restarted(run).items():
            for key, value in technique.state_dict().items():
                first[f"first.of.{name}/{key}"] = value.clone() if isinstance(value, Tensor) else value
        return first

    def _restarted(self, run: Any) -> dict[str, Technique[Any]]:
        """The techniques that begin again: those that act in the steps or build what does."""
        return {
            name: technique
            for name, technique in run.plan.techniques.items()
            if technique.facts.phase.when in ("build", "step")
        }

    def _restart(self, run: Any) -> None:
        start = "first.model."
        weights = {name.removeprefix(start): v for name, v in self._first.items() if name.startswith(start)}
        run.backbone.load_state_dict(weights)
        getattr(run.optimizer, "optimizer", run.optimizer).state.clear()
        for name, technique in self._restarted(run).items():
            mine = f"first.of.{name}/"
            state = {k.removeprefix(mine): v for k, v in self._first.items() if k.startswith(mine)}
            technique.load_state_dict(state)
        self._begun = run.step

    def on_evaluation(self, run: Any, scores: Mapping[str, float]) -> None:
        """Scores tell nothing of rows without labels."""

    def on_end(self, run: Any) -> None:
        """No round follows."""

    def state_dict(self) -> dict[str, Tensor | int | float | str]:
        told: dict[str, Tensor | int | float | str] = {} if self._told is None else {"told": self._told}
        return {"begun": self._begun, **told, **self._first}

    def load_state_dict(self, state: Mapping[str, Tensor | int | float | str]) -> None:
        told = state.get("told")
        self._told = told if isinstance(told, Tensor) else None
        self._begun = int(state.get("begun", 0))
        self._first = {name: value for name, value in state.items() if name.startswith("first.")}

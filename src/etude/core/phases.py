"""The ordered table of phases. This table *is* the definition of the order of techniques.

A phase has one typed signature and takes one contribution or many. The order in which techniques
stand in a config means nothing: inside a phase that takes many, contributions run by their rank and
then by their name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from etude.config.fields import Time
from etude.core.backbone import Backbone, Output, Transform
from etude.core.batch import Batch
from etude.core.rng import Moment

F = TypeVar("F")
Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class GroupRule:
    """What a rule says of one parameter; rules of several techniques are merged.

    Attributes:
        lr_scale: multiplies the learning rate (all rules' scales are multiplied).
        no_decay: the parameter gets no weight decay (if any rule says so).
        frozen_until: the parameter does not train before this time (the latest of all rules).
    """

    lr_scale: float = 1.0
    no_decay: bool = False
    frozen_until: Time | None = None


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter as a group rule sees it: its name, tensor, and block (0 is the input's)."""

    name: str
    value: nn.Parameter
    block: int
    n_blocks: int
    in_norm: bool
    in_embedding: bool
    in_pooler: bool = False

    @property
    def in_head(self) -> bool:
        """Whether the parameter is fresh: of the head, the last block, or of a pooler with weights."""
        return self.in_pooler or self.block == self.n_blocks - 1


@dataclass(frozen=True)
class View:
    """The training rows of one epoch, as ids with their targets and weights.

    Attributes:
        rows: (N,) ids of rows in the training part.
        targets: (N, C) float.
        weights: (N,) float.
        lengths: (N,) tokens of each row, or ones where there is no length.
    """

    rows: Rows
    targets: Tensor
    weights: Tensor
    lengths: NDArray[np.int64]

    def select(self, positions: Rows) -> View:
        """Return the view of some of its rows, in the given order."""
        taken = torch.from_numpy(positions)
        return View(self.rows[positions], self.targets[taken], self.weights[taken], self.lengths[positions])


class ModelCall(Protocol):
    """The call of the model inside a step."""

    def __call__(self, batch: Batch, transform: Transform | None = None) -> Output: ...


class Average(Protocol):
    """A shadow of the weights that evaluation may borrow."""

    def update(self, model: nn.Module, moment: Moment) -> None:
        """Take the new weights in, after an optimizer step."""

    def lend(self, model: nn.Module) -> AbstractContextManager[None]:
        """Put the shadow's weights into the model, and the raw ones back on leaving."""

    def settle(self, run: Any) -> bool:
        """Make the shadow ready to be kept, at the end of the run; say whether it has changed.

        ``run`` is the engine: ``run.scores()`` scores weights, and ``run.show_training_rows()`` lets
        statistics such as BatchNorm's be taken again.
        """


class Observer(Protocol):
    """Somebody who looks on and may ask for a stop, an evaluation or a checkpoint."""

    def on_start(self, run: Any) -> None: ...
    def on_step(self, run: Any) -> None: ...
    def on_epoch(self, run: Any) -> None: ...
    def on_evaluation(self, run: Any, scores: Mapping[str, float]) -> None: ...
    def on_end(self, run: Any) -> None: ...


Edit = Callable[[Backbone], Backbone]
"""Changes the backbone in place and returns it, or returns another of the same class."""
StartModel = Callable[[Backbone, Callable[[Rows], Tensor], Tensor, Tensor], None]
"""(backbone, rows -> features (n, D) without gradients, targets (N, C), weights (N,)) -> None."""
Rule = Callable[[Parameter], GroupRule]
Factor = Callable[[float], float]
# How many rows these leave, and how many make a step, must follow from the seed and the epoch alone: the
# length of the run is counted before it begins. Their moment's step is the number of the epoch.
ChangeView = Callable[[View, Moment], View]
Sample = Callable[[View, Moment], Rows]
BatchSize = Callable[[Moment], int]
Order = Callable[[View, int, Moment], Rows]
Tune = Callable[[Sequence[dict[str, Any]], Moment], None]
Adjust = Callable[[nn.Module, Moment], None]
ChangeBatch = Callable[[Batch, Moment], Batch]
Soften = Callable[[Tensor, Moment], Tensor]
Gradients = Callable[[], Tensor]
Perturb = Callable[[Gradients, Sequence[nn.Parameter], Moment], Tensor]
Forward = Callable[[ModelCall, Batch, Moment], Output]
Loss = Callable[[Output, Batch, Moment], Tensor]
BatchLoss = Callable[[Tensor, Batch, Moment], Tensor]
WeighClass = Callable[[Tensor, Batch], Tensor]
WeighExample = Callable[[Tensor, Batch, Moment], Tensor]
ChangeGradient = Callable[[Sequence[nn.Parameter], Moment], "Tensor | None"]


@dataclass(frozen=True, slots=True)
class ExtraLoss:
    """A further loss: its terms (B, k), its weight, and what is left of the main loss."""

    terms: Loss
    weight: float
    main_weight: float = 1.0


@dataclass(frozen=True, slots=True)
class OptimizerSpec:
    """How the optimizer is made: from groups that carry ``params``, ``lr`` and ``weight_decay``."""

    lr: float
    weight_decay: float
    make: Callable[[list[dict[str, Any]]], Optimizer]


@dataclass(frozen=True, slots=True)
class Warmup:
    """A rise of the learning rate in front of the schedule: share of the warm-up -> factor."""

    duration: Time
    factor: Factor


@dataclass(frozen=True, slots=True)
class Phase(Generic[F]):
    """One row of the table."""

    name: str
    when: Literal["build", "epoch", "step", "any"]
    takes: Literal["one", "many"]
    signature: str


MODEL: Phase[Edit] = Phase("model", "build", "many", "model -> model")
START: Phase[StartModel] = Phase("start", "build", "one", "model, training features -> model")
GROUPS: Phase[Rule] = Phase("groups", "build", "many", "parameter -> lr scale, decay, frozen until")
OPTIMIZER: Phase[OptimizerSpec] = Phase("optimizer", "build", "one", "groups -> optimizer")
SCHEDULE: Phase[Factor] = Phase("schedule", "build", "one", "progress 0..1 -> factor of the lr")
WARMUP: Phase[Warmup] = Phase("warmup", "build", "one", "share of the warm-up -> factor of the lr")
DATA: Phase[ChangeView] = Phase("data", "epoch", "many", "view -> view")
SAMPLE: Phase[Sample] = Phase("sample", "epoch", "one", "view -> which rows, how often")
ORDER: Phase[Order] = Phase("order", "epoch", "one", "view of the drawn rows, batch size -> order")
BATCH_SIZE: Phase[BatchSize] = Phase("batch_size", "epoch", "one", "moment -> rows in a step")
TUNE: Phase[Tune] = Phase("tune", "step", "many", "optimizer's groups -> groups with a number changed")
ADJUST: Phase[Adjust] = Phase("adjust", "step", "many", "model -> model with a number changed")
AUGMENT: Phase[ChangeBatch] = Phase("augment", "step", "many", "batch -> batch, per example")
MIX: Phase[ChangeBatch] = Phase("mix", "step", "one", "batch -> batch, between examples")
SOFTEN: Phase[Soften] = Phase("soften", "step", "one", "targets -> targets")
PERTURB: Phase[Perturb] = Phase("perturb", "step", "one", "gradients -> gradients, elsewhere")
FORWARD: Phase[Forward] = Phase("forward", "step", "many", "model call -> model call")
LOSS: Phase[Loss] = Phase("loss", "step", "one", "output, batch -> terms (B, C)")
EXTRA_LOSS: Phase[ExtraLoss] = Phase("extra_loss", "step", "many", "output, batch -> terms (B, k)")
BATCH_LOSS: Phase[BatchLoss] = Phase("batch_loss", "step", "many", "all features (N, D) -> one number")
WEIGH_CLASS: Phase[WeighClass] = Phase("weigh_class", "step", "one", "terms -> terms")
WEIGH_EXAMPLE: Phase[WeighExample] = Phase("weigh_example", "step", "many", "losses (B,) -> weights (B,)")
GRADIENT: Phase[ChangeGradient] = Phase("gradient", "step", "many", "parameters -> parameters")
AVERAGE: Phase[Average] = Phase("average", "step", "one", "model -> shadow, lent for evaluation")
OBSERVE: Phase[Observer] = Phase("observe", "any", "many", "read-only view -> requests")

PHASES: tuple[Phase[Any], ...] = (
    MODEL, START, GROUPS, OPTIMIZER, SCHEDULE, WARMUP,
    DATA, SAMPLE, ORDER, BATCH_SIZE,
    TUNE, ADJUST, AUGMENT, MIX, SOFTEN, PERTURB, FORWARD, LOSS, EXTRA_LOSS, BATCH_LOSS, WEIGH_CLASS,
    WEIGH_EXAMPLE, GRADIENT, AVERAGE, OBSERVE,
)  # fmt: skip
RANK = {phase.name: rank for rank, phase in enumerate(PHASES)}

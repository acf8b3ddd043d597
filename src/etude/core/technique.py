"""What a technique is: a card, a config, facts, and one method that places it into the plan."""

from __future__ import annotations

import inspect
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from numpy.typing import NDArray
from torch import Tensor

from etude.config.fields import Strict, Time
from etude.core.backbone import Backbone
from etude.core.phases import Phase
from etude.core.task import Kind, Task

if TYPE_CHECKING:
    from etude.core.plan import Plan

ALL_TASKS: frozenset[Kind] = frozenset({"binary", "multiclass", "multilabel"})
SINGLE_LABEL: frozenset[Kind] = frozenset({"binary", "multiclass"})


class TechniqueConfig(Strict):
    """Base of all techniques' configs; a subclass fixes ``name`` to a literal."""

    name: str


C = TypeVar("C", bound=TechniqueConfig)


@dataclass(frozen=True, slots=True)
class Facts:
    """What others must know of a technique to decide whether it fits.

    Attributes:
        family: the folder it is listed under.
        phase: the phase that it mainly contributes to.
        paper: authors, year and arXiv id or venue; several are separated by ``"; "``.
        passes: forward-and-backward passes of one step, as a multiple of a plain one.
        tasks: the tasks it works on.
        needs: capabilities of the backbone that it cannot do without.
        requires: other techniques that it cannot do without.
        produces_soft_targets: its targets are no longer zeros and ones.
        accepts_soft_targets: it gives a right result when targets are soft.
        changes_inputs: inputs differ from step to step, so that features cannot be cached.
        split_invariant: micro-batches give the same result as one large batch.
        two_pass: it computes gradients twice in one step.
        clashes: other techniques by name or facts by ``"fact:NAME"``, with the reason in a sentence.
        rebalances: classes count for more or less than their share of the rows.
        puts_pooler: it exchanges the pooling, of which a backbone has one.
        needs_validation: it looks at the scores of the validation part.
        needs_unlabelled: it learns from rows without labels.
        cautions: as ``clashes``, of what it may run beside all the same; the user is warned.
        neutral: settings with which it changes nothing; ``None`` where there are none, as for a loss.
        example: values of the settings without a default, for tests; a model's folder may be any word.
    """

    family: str
    phase: Phase[Any]
    paper: str
    passes: float = 1.0
    tasks: frozenset[Kind] = ALL_TASKS
    needs: frozenset[str] = frozenset()
    requires: frozenset[str] = frozenset()
    produces_soft_targets: bool = False
    accepts_soft_targets: bool = True
    changes_inputs: bool = False
    split_invariant: bool = True
    two_pass: bool = False
    rebalances: bool = False
    puts_pooler: bool = False
    needs_validation: bool = False
    needs_unlabelled: bool = False
    clashes: Mapping[str, str] = field(default_factory=dict)
    cautions: Mapping[str, str] = field(default_factory=dict)
    neutral: Mapping[str, Any] | None = None
    example: Mapping[str, Any] = field(default_factory=dict)

    @property
    def averages_weights(self) -> bool:
        """Whether it lends averaged weights."""
        return self.phase.name == "average"

    @property
    def schedules_lr(self) -> bool:
        """Whether it is a schedule that moves the learning rate, as one that is neutral always does not."""
        return self.phase.name == "schedule" and self.neutral != {}

    def holds(self, fact: str) -> bool:
        """Whether the boolean fact of that name is true."""
        return bool(getattr(self, fact))


@dataclass(frozen=True)
class Context:
    """What a technique may look at while it is placed.

    Attributes:
        task: the task, with its labels.
        backbone: the model that will be trained.
        class_counts: (C,) examples of each class in the training part.
        n_rows: labelled training rows; their ids are 0 to ``n_rows - 1``.
        batch_size: rows of one optimizer step.
        steps_per_epoch: steps of the first epoch.
        total_steps: steps of the run.
        seed: the run's seed.
        load_model: opens a saved model's folder and returns its backbone, for teachers.
        precision: ``"fp32"``, ``"bf16"`` or ``"fp16"``.
        epoch_steps: the steps of each epoch; empty where all have ``steps_per_epoch``.
        has_validation: whether there is a validation part.
        soft_targets: whether the training labels themselves are distributions.
        n_unlabelled: rows without labels, whose ids follow; none is shown unless a technique adds it.
    """

    task: Task
    backbone: Backbone
    class_counts: NDArray[Any]
    n_rows: int
    batch_size: int
    steps_per_epoch: int
    total_steps: int
    seed: int
    load_model: Callable[[str], Backbone]
    precision: str = "fp32"
    epoch_steps: tuple[int, ...] = ()
    has_validation: bool = True
    soft_targets: bool = False
    n_unlabelled: int = 0

    @property
    def epochs(self) -> int:
        """The number of epochs; a limit on steps may end the run before them."""
        return len(self.epoch_steps) or -(-self.total_steps // self.steps_per_epoch)

    def steps_in(self, epoch: int) -> int:
        """The number of optimizer steps of an epoch."""
        return self.epoch_steps[epoch] if epoch < len(self.epoch_steps) else self.steps_per_epoch

    def steps(self, time: Time) -> int:
        """The number of optimizer steps of a time."""
        return time.steps(
            epoch_steps=self.epoch_steps or (self.steps_per_epoch,), total_steps=self.total_steps
        )


class Technique(ABC, Generic[C]):
    """Base of all techniques.

    Class attributes:
        Config: the config class; its literal ``name`` is the technique's key.
        facts: what others must know of it.
    """

    Config: ClassVar[type[TechniqueConfig]]
    facts: ClassVar[Facts]

    def __init__(self, config: C) -> None:
        self.config: C = config

    @classmethod
    def key(cls) -> str:
        """The name that the config calls it by."""
        return str(cls.Config.model_fields["name"].default)

    @classmethod
    def card(cls) -> str:
        """The card: the docstring of the module that defines it."""
        return inspect.cleandoc(sys.modules[cls.__module__].__doc__ or "")

    @classmethod
    def summary(cls) -> str:
        """The card's first line."""
        return cls.card().splitlines()[0]

    def is_neutral(self) -> bool:
        """Whether the settings are those with which it changes nothing."""
        neutral = self.facts.neutral
        if neutral is None:
            return False
        plain = type(self.config)(**{**self.facts.example, **neutral})
        return all(getattr(self.config, key) == getattr(plain, key) for key in neutral)

    @abstractmethod
    def attach(self, plan: Plan) -> None:
        """Place the technique's contributions; placing none means a neutral setting."""

    def state_dict(self) -> dict[str, Tensor | int | float | str]:
        """What must survive a stop: tensors and plain numbers."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor | int | float | str]) -> None:
        """Take the state back."""
        if state:
            raise ValueError(f"{self.key()} keeps no state and was given {sorted(state)}")

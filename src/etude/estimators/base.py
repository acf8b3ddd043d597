"""What every estimator takes and gives.

Shapes: N rows, K numbers, J categories, D terms, C classes, R rounds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from etude.core.task import Kind

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]


@dataclass(frozen=True)
class Features:
    """What is known of N rows.

    Attributes:
        numbers: (N, K) float64, NaN where a number is missing.
        categories: (N, J) codes from 1; 0 is a missing category, or one that training did not see.
        terms: (N, D) a SciPy matrix in CSR form, the TF-IDF of texts; or None.
    """

    numbers: Floats
    categories: Codes
    terms: Any = None

    def __len__(self) -> int:
        return len(self.numbers)


@dataclass(frozen=True)
class Sample:
    """N rows with their labels.

    Attributes:
        features: of N rows.
        targets: (N, C) from 0 to 1; a row's sum to one where it has exactly one label.
        weights: (N,) 0 or more.
    """

    features: Features
    targets: Floats
    weights: Floats


@dataclass(frozen=True)
class Curves:
    """How the mean loss fell while an estimator was fitted; it is the loss of the fit, weights included.

    Attributes:
        unit: what is counted, as ``"rounds"``.
        at: (R,) the counts.
        train, validation: (R,) the losses; ``validation`` is empty where there was no such part.
        kept: the count whose model was kept.
    """

    unit: str
    at: list[float] = field(default_factory=list)
    train: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    kept: float = 0

    def to_json(self) -> dict[str, Any]:
        """Lists and numbers by name."""
        return {name: getattr(self, name) for name in ("unit", "at", "train", "validation", "kept")}


class Estimator(ABC):
    """A model that is fitted by one call.

    Attributes:
        kind: the ``backbone.kind`` that asks for it.
        task: the kind of the task.
        n_classes: C.
        curves: the losses of the fit.
        notes: sentences on the fit that the user should read.
    """

    kind: ClassVar[str]
    curves: Curves

    def __init__(self, task: Kind, n_classes: int) -> None:
        self.task, self.n_classes = task, n_classes
        self.notes: list[str] = []

    @abstractmethod
    def fit(
        self,
        train: Sample,
        validation: Sample | None = None,
        *,
        class_weights: Floats | None = None,
        seed: int = 0,
    ) -> None:
        """Fit to the training rows; rows of weight 0 count as absent.

        Args:
            train: the training rows.
            validation: what may stop the fit, or choose a setting; never fitted to.
            class_weights: (C,) multiplied into the loss of each class.
            seed: of every random draw.

        Raises:
            DataError: no row has a weight and a label.
            ConfigError: the library refuses a setting.
        """

    @abstractmethod
    def logits(self, features: Features) -> NDArray[np.float32]:
        """Return the logits (N, C), which the task's activation turns into probabilities."""

    def questions(self, targets: Floats) -> list[Floats]:
        """What is fitted one by one: the targets (N, C) as they are, or each label's absence and presence.

        >>> class One(Estimator):
        ...     fit = logits = importances = save = load = None
        >>> One.__abstractmethods__ = frozenset()
        >>> [question.tolist() for question in One("multilabel", 2).questions(np.array([[1.0, 0.3]]))]
        [[[0.0, 1.0]], [[0.7, 0.3]]]
        """
        if self.task != "multilabel":
            return [targets]
        return [np.stack([1.0 - column, column], axis=1) for column in targets.T]

    def question_weights(self, class_weights: Floats | None, number: int) -> Floats:
        """The weights of one question's classes; a label's weight counts for its absence too."""
        weights = np.ones(self.n_classes) if class_weights is None else class_weights
        return np.full(2, weights[number]) if self.task == "multilabel" else weights

    def answered(self, answers: Sequence[Floats]) -> NDArray[np.float32]:
        """Return the logits (N, C) from those of each question: (N, C) of the only one, or (N, 2) each."""
        if self.task != "multilabel":
            return answers[0].astype(np.float32)
        return np.stack([both[:, 1] - both[:, 0] for both in answers], axis=1).astype(np.float32)

    @abstractmethod
    def importances(self) -> tuple[Floats, Floats]:
        """Return what the K numbers (K,) and the J categories (J,) contribute; all sum to 1, or are 0."""

    @abstractmethod
    def save(self, folder: Path) -> dict[str, Any]:
        """Write the fitted arrays into a folder that exists, and return the rest as JSON."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, told: Mapping[str, Any]) -> Estimator:
        """Open what :meth:`save` wrote."""

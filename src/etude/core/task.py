"""What is predicted: one of two classes, one of many, or any subset of labels.

The task encodes labels as a dense (N, C) matrix, knows the activation and the default loss, and how
probabilities become labels. Nothing else in the code asks which task it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from etude.errors import DataError, closest

Kind = Literal["binary", "multiclass", "multilabel"]


class Task(ABC):
    """A classification task over the labels ``labels``, in that order."""

    kind: ClassVar[Kind]
    default_loss: ClassVar[str]
    main_metric: ClassVar[str]
    problem_type: ClassVar[str]

    def __init__(self, labels: Sequence[str]) -> None:
        if len(labels) < self.fewest:
            raise DataError(
                f"the training part has {len(labels)} label(s) ({', '.join(labels) or 'none'}), "
                f"and a {self.kind} task needs at least {self.fewest}; check the labels column"
            )
        self.labels = tuple(labels)
        self._position = {label: i for i, label in enumerate(self.labels)}

    fewest: ClassVar[int] = 2

    @property
    def n_classes(self) -> int:
        """C, the number of labels."""
        return len(self.labels)

    def position(self, label: str) -> int:
        """The column of a label; raises ``DataError`` with the closest known label."""
        try:
            return self._position[label]
        except KeyError:
            raise DataError(
                f"label {label!r} does not occur in the training part{closest(label, self.labels)}"
            ) from None

    def encode(self, rows: Iterable[str | Sequence[str]]) -> NDArray[np.float32]:
        """Return the (N, C) matrix of targets: ones at each row's label or labels."""
        listed = [[row] if isinstance(row, str) else list(row) for row in rows]
        targets = np.zeros((len(listed), self.n_classes), dtype=np.float32)
        for i, names in enumerate(listed):
            for name in names:
                targets[i, self.position(name)] = 1.0
        return targets

    @abstractmethod
    def probabilities(self, logits: Tensor) -> Tensor:
        """Map (B, C) logits to (B, C) probabilities."""

    @abstractmethod
    def decide(self, probabilities: NDArray[Any]) -> NDArray[np.bool_]:
        """Map (N, C) probabilities to an (N, C) matrix of the labels that hold."""

    def names(self, decisions: NDArray[np.bool_]) -> list[list[str]]:
        """The label names of each row of decisions."""
        return [[self.labels[c] for c in np.flatnonzero(row)] for row in decisions]


class Multiclass(Task):
    """Exactly one label for each example; softmax over C logits."""

    kind: ClassVar[Kind] = "multiclass"
    default_loss = "cross_entropy"
    main_metric = "accuracy"
    problem_type = "single_label_classification"

    def probabilities(self, logits: Tensor) -> Tensor:
        return torch.softmax(logits, dim=-1)

    def decide(self, probabilities: NDArray[Any]) -> NDArray[np.bool_]:
        decisions = np.zeros(probabilities.shape, dtype=np.bool_)
        decisions[np.arange(len(probabilities)), probabilities.argmax(axis=1)] = True
        return decisions


class Binary(Multiclass):
    """One of two labels; softmax over two logits, the second label being the positive one."""

    kind = "binary"

    def __init__(self, labels: Sequence[str]) -> None:
        super().__init__(labels)
        if len(labels) != 2:
            raise DataError(
                f'task = "binary" needs two labels and the training part has {len(labels)}; '
                'use task = "multiclass"'
            )


class Multilabel(Task):
    """Any subset of the labels; one sigmoid for each of C logits."""

    kind = "multilabel"
    default_loss = "bce"
    main_metric = "f1_macro"
    problem_type = "multi_label_classification"
    fewest = 1

    def probabilities(self, logits: Tensor) -> Tensor:
        return torch.sigmoid(logits)

    def decide(self, probabilities: NDArray[Any]) -> NDArray[np.bool_]:
        return probabilities >= 0.5


def make_task(kind: Kind, labels: Sequence[str]) -> Task:
    """Return the task of a kind over the labels."""
    return {"binary": Binary, "multiclass": Multiclass, "multilabel": Multilabel}[kind](labels)

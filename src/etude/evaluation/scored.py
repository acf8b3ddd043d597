"""One part of the data with everything that is known of it after training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etude.core.task import Task


@dataclass(frozen=True)
class Scored:
    """N rows, what they are and what the model says of them.

    A row of a single-label task whose targets are all zero belongs to none of the classes (it is out of
    scope), and one whose decisions are all False was not answered (the model abstained).

    Attributes:
        task: the task, with the labels in the order of the columns.
        logits: (N, C) as the network gives them.
        probabilities: (N, C) after calibration.
        decisions: (N, C), the labels that hold.
        targets: (N, C) from 0 to 1.
        texts: (N,) the raw texts, empty where the data have none.
        rows: (N,) the row of the part's file that each came from, counted from 0.
    """

    task: Task
    logits: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    decisions: NDArray[np.bool_]
    targets: NDArray[np.float32]
    texts: Sequence[str]
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def truth(self) -> NDArray[np.bool_]:
        """(N, C), the labels that the targets say; none for a row out of scope."""
        return true_labels(self.task, self.targets)


def true_labels(task: Task, targets: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which labels (N, C) the targets stand for: of soft ones the likeliest, of none no label.

    >>> from etude.core.task import Multiclass
    >>> true_labels(Multiclass(["a", "b"]), np.array([[0.2, 0.8], [0.0, 0.0]]))
    array([[False,  True],
           [False, False]])
    """
    truth = task.decide(targets)
    if task.kind != "multilabel":
        truth &= (targets > 0).any(axis=1, keepdims=True)
    return truth

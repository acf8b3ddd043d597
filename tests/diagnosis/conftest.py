"""Small parts of data with known scores, and histories of runs that never were."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from etude.core.task import Kind, make_task
from etude.evaluation.scored import Scored

LABELS = ("a", "b", "c")


class Make:
    """Makes parts and histories."""

    @staticmethod
    def part(truth: Sequence[str], said: Sequence[str], sure: float | Sequence[float] = 0.8) -> Scored:
        """Rows with one label each, as letters; ``"-"`` is a row out of scope, or no answer."""
        task, n = make_task("multiclass", LABELS), len(truth)
        p = np.tile(((1 - np.broadcast_to(sure, n)) / 2)[:, None], 3).astype(np.float32)
        for i, letter in enumerate(said):
            p[i, LABELS.index(letter if letter != "-" else "a")] = np.broadcast_to(sure, n)[i]
        targets, decisions = (
            np.array([[letter == label for label in LABELS] for letter in letters]).reshape(n, 3)
            for letters in (truth, said)
        )
        texts = [f"row {i}" for i in range(n)]
        return Scored(
            task, np.log(p.clip(1e-9)), p, decisions, targets.astype(np.float32), texts, np.arange(n) + 100
        )

    @staticmethod
    def subsets(truth: Sequence[str], said: Sequence[str], p: NDArray[Any] | None = None) -> Scored:
        """Rows with any subset of labels, as words of letters: ``"ac"``."""
        task = make_task("multilabel", LABELS)
        targets, decisions = (
            np.array([[label in word for label in LABELS] for word in words]) for words in (truth, said)
        )
        found = np.where(decisions, 0.8, 0.2).astype(np.float32) if p is None else p.astype(np.float32)
        logits = np.log(found / (1 - found))
        texts = [f"row {i}" for i in range(len(truth))]
        return Scored(
            task, logits, found, decisions, targets.astype(np.float32), texts, np.arange(len(truth))
        )

    @staticmethod
    def accuracy(share: float, n: int = 400, sure: float = 0.8) -> Scored:
        """A part of which a share is right, the classes taking turns."""
        truth = [LABELS[i % 3] for i in range(n)]
        wrong = [LABELS[(i + 1) % 3] for i in range(n)]
        right = round(share * n)
        return Make.part(truth, [*truth[:right], *wrong[right:]], sure)

    @staticmethod
    def losses(values: Sequence[float], every: int = 10, per_epoch: int = 100) -> list[dict[str, Any]]:
        """Records of the training loss."""
        steps = [(i + 1) * every for i in range(len(values))]
        return [
            {"step": step, "epoch": (step - 1) // per_epoch, "train": {"loss": value}}
            for step, value in zip(steps, values, strict=True)
        ]

    @staticmethod
    def scores(values: Sequence[float], losses: Sequence[float] = (), metric: str = "accuracy") -> list[Any]:
        """Records of an evaluation at the end of each epoch of 100 steps."""
        said = [{metric: value} for value in values]
        for record, loss in zip(said, losses, strict=False):
            record["loss"] = loss
        return [{"step": 100 * (e + 1), "epoch": e, "validation": scores} for e, scores in enumerate(said)]

    @staticmethod
    def task(kind: Kind = "multiclass") -> Any:
        """The task of the parts."""
        return make_task(kind, LABELS[:2] if kind == "binary" else LABELS)


@pytest.fixture
def make() -> type[Make]:
    """The maker."""
    return Make

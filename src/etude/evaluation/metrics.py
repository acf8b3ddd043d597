"""Metrics from counts: any number of rows can be added, and memory does not grow.

Everything here follows scikit-learn's definitions (``zero_division=0``): for single-label tasks, macro
averages run over the classes that occur among the true or the predicted labels; for multilabel tasks
over all labels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from etude.core.task import Task

Scores = dict[str, float]
_EPS = float(np.finfo(np.float64).eps)
"""No probability counts as less, as in scikit-learn's log loss."""


class Metrics:
    """Collects counts from probabilities (N, C) and targets (N, C), and turns them into scores."""

    def __init__(self, task: Task) -> None:
        c = task.n_classes
        self._task = task
        self._rows = 0
        self._exact = 0
        self._nll = 0.0
        self._hit = np.zeros(c)
        self._predicted = np.zeros(c)
        self._true = np.zeros(c)
        self._confusion = np.zeros((c, c)) if task.kind != "multilabel" else np.zeros((0, 0))

    def update(self, probabilities: NDArray[Any], targets: NDArray[Any]) -> None:
        """Add rows: probabilities (N, C) in [0, 1] and targets (N, C).

        Of soft targets the loss is the cross-entropy, and everything else takes the likeliest for the truth.
        """
        decisions = self._task.decide(probabilities)
        truth = self._task.decide(targets)
        self._rows += len(truth)
        self._exact += int((decisions == truth).all(axis=1).sum())
        self._hit += (decisions & truth).sum(axis=0)
        self._predicted += decisions.sum(axis=0)
        self._true += truth.sum(axis=0)
        p = np.clip(probabilities.astype(np.float64), _EPS, 1.0)
        if self._task.kind == "multilabel":
            q = np.clip(1.0 - probabilities.astype(np.float64), _EPS, 1.0)
            self._nll -= float((targets * np.log(p) + (1.0 - targets) * np.log(q)).mean(axis=1).sum())
        else:
            self._nll -= float((targets * np.log(p)).sum())
            np.add.at(self._confusion, (truth.argmax(axis=1), decisions.argmax(axis=1)), 1)

    def compute(self) -> Scores:
        """Return the scores; an empty part gives an empty mapping."""
        if self._rows == 0:
            return {}
        precision = _ratio(self._hit, self._predicted)
        recall = _ratio(self._hit, self._true)
        f1 = _ratio(2 * self._hit, self._predicted + self._true)
        single = self._task.kind != "multilabel"
        counted = (self._true + self._predicted > 0) if single else np.ones(len(f1), dtype=bool)
        scores = {
            "accuracy": self._exact / self._rows,
            "f1_macro": float(f1[counted].mean()),
            "f1_micro": float(_ratio(2 * self._hit.sum(), self._predicted.sum() + self._true.sum())),
            "f1_weighted": float(_ratio((f1 * self._true).sum(), self._true.sum())),
            "precision_macro": float(precision[counted].mean()),
            "recall_macro": float(recall[counted].mean()),
            "loss": self._nll / self._rows,
        }
        if single:
            scores["balanced_accuracy"] = float(recall[self._true > 0].mean())
            scores["mcc"] = self._mcc()
        else:
            wrong = self._predicted + self._true - 2 * self._hit
            scores["hamming_loss"] = float(wrong.sum() / (self._rows * len(f1)))
        if self._task.kind == "binary":
            scores |= {"precision": float(precision[1]), "recall": float(recall[1]), "f1": float(f1[1])}
        return scores

    def per_class(self) -> list[dict[str, Any]]:
        """Return precision, recall, F1 and the number of rows of each label."""
        precision = _ratio(self._hit, self._predicted)
        recall = _ratio(self._hit, self._true)
        f1 = _ratio(2 * self._hit, self._predicted + self._true)
        return [
            {
                "label": label,
                "precision": float(precision[c]),
                "recall": float(recall[c]),
                "f1": float(f1[c]),
                "rows": int(self._true[c]),
            }
            for c, label in enumerate(self._task.labels)
        ]

    def _mcc(self) -> float:
        """Matthews' correlation coefficient for C classes (Gorodkin 2004)."""
        correct, total = self._hit.sum(), float(self._rows)
        covariance = correct * total - self._true @ self._predicted
        spread = np.sqrt(total**2 - self._predicted @ self._predicted) * np.sqrt(
            total**2 - self._true @ self._true
        )
        return float(covariance / spread) if spread > 0 else 0.0


def score(task: Task, probabilities: NDArray[Any], targets: NDArray[Any]) -> Scores:
    """Return the scores of one part.

    >>> from etude.core.task import Multiclass
    >>> p = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    >>> round(score(Multiclass(["a", "b"]), p, np.array([[1, 0], [0, 1], [0, 1]]))["accuracy"], 3)
    0.667
    """
    metrics = Metrics(task)
    metrics.update(probabilities, targets)
    return metrics.compute()


def _ratio(numerator: Any, denominator: Any) -> Any:
    """Divide, and give 0 where the denominator is 0."""
    return np.divide(
        numerator,
        denominator,
        out=np.zeros_like(np.asarray(numerator, dtype=float)),
        where=np.asarray(denominator) > 0,
    )

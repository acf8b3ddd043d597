"""Metrics of any number of rows, added in chunks: memory does not grow with them.

Counts and means are sums (``counts.py``). Metrics of the order of scores (ROC AUC, average precision,
calibration error) keep the scores in a temporary file and sort one label at a time.

Everything follows scikit-learn's definitions. Where those are undefined:

* precision, recall, F and Jaccard of 0 of 0 are 0 (``zero_division=0``)
* a label whose rows all have it, or all lack it, has no ROC AUC and is left out of the mean
* the average precision of a label without positives is 0; classes of a multiclass task that do not
  occur are left out, as in every other macro average
* a metric without any value (ROC AUC where no label has one, recall of rows out of scope where there are
  none) is left out of the result
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etude.core.task import Task
from etude.errors import DataError
from etude.evaluation import ranking
from etude.evaluation.counts import Totals, divide, extra_metrics, n_facts, row_facts, score_from
from etude.evaluation.names import check_metric, default_metrics
from etude.evaluation.reliability import confidences
from etude.evaluation.store import ScoreStore

Scores = dict[str, float]

_CELLS = 2**20
"""Entries (rows times labels) that are looked at in one go."""


class Metrics:
    """Collects probabilities (N, C), targets (N, C) and decisions (N, C), and turns them into scores.

    Args:
        task: the task.
        names: the metrics to compute; where None, the task's default ones, and those of abstention and of
            rows out of scope where there are any.

    Raises:
        ConfigError: a name is unknown, or is no metric of such a task.
    """

    def __init__(self, task: Task, names: Sequence[str] | None = None) -> None:
        self._task = task
        self._all = names is None
        chosen = default_metrics(task.kind, task.n_classes) if names is None else names
        self._metrics = [check_metric(name, task.kind) for name in chosen]
        self._sums = np.zeros(n_facts(task, self._metrics))
        ranked = {metric.name for metric in self._metrics if metric.source == "ranks"}
        self._scores = self._confidence = None
        if ranked & {"roc_auc", "average_precision"} or (ranked and task.kind == "multilabel"):
            self._scores = ScoreStore(1 if task.kind == "binary" else task.n_classes)
        if "ece" in ranked and task.kind != "multilabel":
            self._confidence = ScoreStore(1)
        self._seen = 0

    def update(
        self, probabilities: NDArray[Any], targets: NDArray[Any], decisions: NDArray[np.bool_] | None = None
    ) -> None:
        """Add rows.

        Args:
            probabilities: (n, C) in [0, 1].
            targets: (n, C). Of soft targets the loss and the Brier score take each share, and everything else
                takes the likeliest for the truth. A row of a single-label task without any is out of scope.
            decisions: (n, C), the labels that were decided; the task's plain decision where None.

        Raises:
            DataError: a probability is not finite, or the shapes do not fit.
        """
        probabilities, targets = np.asarray(probabilities), np.asarray(targets)
        check_scores(self._task, probabilities, targets, decisions, first_row=self._seen)
        size = max(1, _CELLS // self._task.n_classes)
        for start in range(0, len(targets), size):
            rows = slice(start, start + size)
            p = probabilities[rows]
            chosen = (
                self._task.decide(p) if decisions is None else np.asarray(decisions[rows], dtype=np.bool_)
            )
            self._add(p, targets[rows], chosen)
        self._seen += len(targets)

    def _add(self, p: NDArray[Any], targets: NDArray[Any], decisions: NDArray[np.bool_]) -> None:
        facts = row_facts(self._task, self._metrics, p, targets, decisions)
        self._sums += facts.total()
        if self._scores is not None:
            self._scores.add(*ranking.by_label(self._task, p, targets))
        if self._confidence is not None:
            confidence, right = confidences(self._task, p, targets)
            self._confidence.add(confidence[:, None], right[:, None])

    def compute(self) -> Scores:
        """Return the scores by name; an empty part gives an empty mapping."""
        if self._seen == 0:
            return {}
        totals = Totals(self._sums, self._task, self._metrics)
        extras = extra_metrics(self._task, totals) if self._all else ()
        metrics = [*self._metrics, *(check_metric(name, self._task.kind) for name in extras)]
        ranks = self._ranks(totals)
        found = {
            metric.name: ranks[metric.name] if metric.source == "ranks" else float(score_from(totals, metric))
            for metric in metrics
        }
        return {name: value for name, value in found.items() if not np.isnan(value)}

    def _ranks(self, totals: Totals) -> Scores:
        """The metrics that need the order of all scores; NaN where one has no value."""
        found: Scores = {}
        names = {metric.name for metric in self._metrics}
        if self._scores is not None and names & {"roc_auc", "average_precision"}:
            each = np.array([ranking.label_ranks(*label) for label in self._scores.labels()])
            means = ranking.over_labels(self._task, each[:, 0], each[:, 1], totals.true)
            found |= {name: float(value) for name, value in means.items()}
        if "ece" in names:
            store = self._scores if self._confidence is None else self._confidence
            found["ece"] = ranking.streamed_ece(store) if store is not None else np.nan
        return found

    def per_class(self) -> list[dict[str, Any]]:
        """Return precision, recall, F1 and the number of rows of each label."""
        totals = Totals(self._sums, self._task, self._metrics)
        precision = divide(totals.hit, totals.decided)
        recall = divide(totals.hit, totals.true)
        f1 = divide(2 * totals.hit, totals.decided + totals.true)
        return [
            {
                "label": label,
                "precision": float(precision[c]),
                "recall": float(recall[c]),
                "f1": float(f1[c]),
                "rows": int(totals.true[c]),
            }
            for c, label in enumerate(self._task.labels)
        ]


def check_scores(
    task: Task,
    probabilities: NDArray[Any],
    targets: NDArray[Any],
    decisions: NDArray[np.bool_] | None = None,
    *,
    first_row: int = 0,
) -> None:
    """Refuse scores that no metric could be computed of.

    Raises:
        DataError: a probability is not finite, or the shapes do not fit each other and the task.
    """
    given = [probabilities, targets] if decisions is None else [probabilities, targets, decisions]
    n = len(targets)
    if any(np.shape(matrix) != (n, task.n_classes) for matrix in given):
        shapes = ", ".join(str(np.shape(matrix)) for matrix in given)
        raise DataError(
            f"probabilities, targets and decisions have the shapes {shapes}; each must have as many rows as "
            f"the others and the task's {task.n_classes} columns"
        )
    # One sum says of all scores at once whether they are finite.
    if n and not np.isfinite(probabilities.sum(dtype=np.float64)):
        row, c = np.argwhere(~np.isfinite(probabilities))[0]
        raise DataError(
            f"the score of row {first_row + row} for label {task.labels[c]!r} is {probabilities[row, c]}; "
            "scores must be finite numbers, so look for a loss or a feature that is not"
        )


def score(
    task: Task,
    probabilities: NDArray[Any],
    targets: NDArray[Any],
    decisions: NDArray[np.bool_] | None = None,
    names: Sequence[str] | None = None,
) -> Scores:
    """Return the scores of one part; arguments and errors are those of :class:`Metrics`.

    >>> from etude.core.task import Multiclass
    >>> p = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    >>> round(score(Multiclass(["a", "b"]), p, np.array([[1, 0], [0, 1], [0, 1]]))["accuracy"], 3)
    0.667
    """
    metrics = Metrics(task, names)
    metrics.update(probabilities, targets, decisions)
    return metrics.compute()

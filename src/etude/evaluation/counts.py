"""Metrics that are sums over rows, and nothing else: exact in bounded memory and under any weights.

Of each row a few numbers are known (whether it is right, its loss, which labels hold and which were
decided). Their sums decide every metric here. Sums over repeated rows are weighted sums, so the same formulae
serve one part of the data and a thousand bootstrap resamples of it.

Everything follows scikit-learn's definitions with ``zero_division=0``: for single-label tasks, macro
averages run over the classes that occur among the true or the decided labels; for multilabel tasks over all
labels. What has no value (a mean over no row) is NaN. Shapes: N rows, C classes, F facts of a row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etude.core.task import Task
from etude.evaluation.names import Metric
from etude.evaluation.reliability import log_losses
from etude.evaluation.scored import true_labels

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_ROWS_AT_ONCE = 8192
ABSTAINING = ("coverage", "selective_accuracy")
OUT_OF_SCOPE = ("in_scope_accuracy", "oos_recall", "oos_precision", *ABSTAINING)
_ALWAYS = ("rows", "exact", "in_scope", "answered", "refused_rightly")
"""Facts that count metrics need; the row metrics that were asked for come behind them."""


@dataclass(frozen=True)
class RowFacts:
    """What metrics need to know of N rows.

    Attributes:
        numbers: (N, 5 + k), the facts of ``_ALWAYS`` and the k row metrics.
        hit: (N, C), labels decided rightly.
        decided: (N, C), labels decided.
        true: (N, C), labels that hold.
    """

    numbers: Floats
    hit: Bools
    decided: Bools
    true: Bools

    @property
    def in_scope(self) -> Bools:
        """(N,), rows that belong to a class; of a multilabel task all."""
        return self.numbers[:, _ALWAYS.index("in_scope")] > 0

    def total(self) -> Floats:
        """The sums (F,) over the rows."""
        labels = (matrix.sum(axis=0) for matrix in (self.hit, self.decided, self.true))
        return np.concatenate([self.numbers.sum(axis=0), *labels])

    def weighted(self, weights: NDArray[Any]) -> Floats:
        """The sums (R, F) over the rows under R weights (R, N) each."""
        n, c = self.hit.shape
        sums = np.zeros((len(weights), self.numbers.shape[1] + 3 * c))
        for start in range(0, n, _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            block = np.hstack([self.numbers[rows], self.hit[rows], self.decided[rows], self.true[rows]])
            sums += weights[:, rows].astype(np.float64) @ block
        return sums


def row_facts(
    task: Task,
    metrics: Sequence[Metric],
    probabilities: NDArray[Any],
    targets: NDArray[Any],
    decisions: Bools,
) -> RowFacts:
    """Look at N rows: probabilities (N, C), targets (N, C) and decisions (N, C)."""
    true = true_labels(task, targets)
    hit = decisions & true
    in_scope, answered = _in_scope(task, targets), decisions.any(axis=1)
    facts = {
        "rows": np.ones(len(true)),
        "exact": (decisions == true).all(axis=1),
        "in_scope": in_scope,
        "answered": answered,
        "refused_rightly": ~in_scope & ~answered,
    }
    columns: list[Any] = [facts[name] for name in _ALWAYS]
    rows = _Rows(task, probabilities, targets, true, hit, decisions)
    # A row out of scope has no class of whose probability anything could be said.
    columns += [_of_rows(metric, rows) * in_scope for metric in row_metrics(metrics)]
    return RowFacts(np.stack(columns, axis=1).astype(np.float64), hit, decisions, true)


def row_metrics(metrics: Sequence[Metric]) -> list[Metric]:
    """Those metrics that are means over rows, in their order."""
    return [metric for metric in metrics if metric.source == "rows"]


def n_facts(task: Task, metrics: Sequence[Metric]) -> int:
    """F, how many numbers the sums of such rows are."""
    return len(_ALWAYS) + len(row_metrics(metrics)) + 3 * task.n_classes


def _in_scope(task: Task, targets: NDArray[Any]) -> Bools:
    if task.kind == "multilabel":  # a row without labels is a row like any other
        return np.ones(len(targets), dtype=np.bool_)
    return np.asarray((targets > 0).any(axis=1))


@dataclass(frozen=True)
class _Rows:
    """The rows that row metrics look at."""

    task: Task
    probabilities: NDArray[Any]
    targets: NDArray[Any]
    true: Bools
    hit: Bools
    decided: Bools


def _of_rows(metric: Metric, rows: _Rows) -> Floats:
    """The value (N,) of each row whose mean is the metric."""
    if metric.k:
        return _within_top(rows, metric.k)
    if metric.ratio:
        counts = (matrix.sum(axis=1).astype(np.float64) for matrix in (rows.hit, rows.decided, rows.true))
        return _ratio_of(metric, *counts)
    return {"loss": _loss, "brier": _brier, "coverage_error": _coverage_error}[metric.name](rows)


def _loss(rows: _Rows) -> Floats:
    return log_losses(rows.task, rows.probabilities, rows.targets)


def _brier(rows: _Rows) -> Floats:
    squares: Floats = (rows.probabilities.astype(np.float64) - rows.targets) ** 2
    if rows.task.kind == "binary":
        return squares[:, 1]
    return squares.sum(axis=1) if rows.task.kind == "multiclass" else squares.mean(axis=1)


def _coverage_error(rows: _Rows) -> Floats:
    least = np.where(rows.true, rows.probabilities, np.inf).min(axis=1, keepdims=True)
    return np.asarray((rows.probabilities >= least).sum(axis=1), dtype=np.float64)


def _within_top(rows: _Rows, k: int) -> Floats:
    """Whether fewer than k classes come before the true one; of equal ones the last of the labels leads.

    The order of equal scores is scikit-learn's; the decision between them takes the first.
    """
    n, c = rows.true.shape
    own = rows.true.argmax(axis=1)
    score = rows.probabilities[np.arange(n), own][:, None]
    later = np.arange(c) > own[:, None]
    ahead = (rows.probabilities > score) | ((rows.probabilities == score) & later)
    return np.asarray(ahead.sum(axis=1) < k, dtype=np.float64)


class Totals:
    """Sums (..., F) over rows under their names; the leading axes are resamples, or there are none."""

    def __init__(self, sums: Floats, task: Task, metrics: Sequence[Metric]) -> None:
        self.single = task.kind != "multilabel"
        names = [*_ALWAYS, *(metric.name for metric in row_metrics(metrics))]
        self._sums = {name: sums[..., i] for i, name in enumerate(names)}
        labels = sums[..., len(names) :].reshape(*sums.shape[:-1], 3, task.n_classes)
        self.hit, self.decided, self.true = (labels[..., i, :] for i in range(3))

    def __getitem__(self, name: str) -> Floats:
        return self._sums[name]

    @property
    def counted(self) -> Bools:
        """(..., C), the labels that macro averages run over."""
        occurs = self.true + self.decided > 0
        return occurs if self.single else np.ones_like(occurs)

    def with_none(self) -> tuple[Floats, Floats]:
        """True and decided rows (..., C + 1), those without a class being a class of their own."""
        rows = self["rows"][..., None]
        true, decided = self.true, self.decided
        return (
            np.concatenate([true, rows - true.sum(axis=-1, keepdims=True)], axis=-1),
            np.concatenate([decided, rows - decided.sum(axis=-1, keepdims=True)], axis=-1),
        )


def score_from(totals: Totals, metric: Metric) -> Floats:
    """A count or row metric (...) of the sums; NaN where it has no value."""
    if metric.source == "rows":
        return divide(totals[metric.name], totals["in_scope"], empty=np.nan)
    if metric.ratio:
        return _averaged(totals, metric)
    return _COUNTS[metric.name](totals)


def extra_metrics(task: Task, totals: Totals) -> tuple[str, ...]:
    """Metrics that say something where rows were not answered, or out of scope; others say it where not."""
    if task.kind == "multilabel":
        return ()
    if totals["in_scope"] < totals["rows"]:
        return OUT_OF_SCOPE
    return ABSTAINING if totals["answered"] < totals["rows"] else ()


def divide(numerator: Any, denominator: Any, *, empty: float = 0.0) -> Floats:
    """Divide, and give ``empty`` where the denominator is 0."""
    numerator, denominator = np.broadcast_arrays(
        np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    )
    out = np.full(numerator.shape, empty)
    return np.divide(numerator, denominator, out=out, where=denominator != 0)


def _ratio_of(metric: Metric, hit: Any, decided: Any, true: Any) -> Floats:
    """Precision, recall, Jaccard or F-beta of counts; 0 where it is 0 of 0."""
    if metric.ratio == "precision":
        return divide(hit, decided)
    if metric.ratio == "recall":
        return divide(hit, true)
    if metric.ratio == "jaccard":
        return divide(hit, decided + true - hit)
    weight = metric.beta**2
    return divide((1 + weight) * hit, decided + weight * true)


def _averaged(totals: Totals, metric: Metric) -> Floats:
    if metric.average == "micro":
        sums = (matrix.sum(axis=-1) for matrix in (totals.hit, totals.decided, totals.true))
        return _ratio_of(metric, *sums)
    each = _ratio_of(metric, totals.hit, totals.decided, totals.true)
    if metric.average == "":
        return each[..., 1]
    weights = totals.true if metric.average == "weighted" else totals.counted
    empty = 0.0 if metric.average == "weighted" else np.nan
    return divide((each * weights).sum(axis=-1), weights.sum(axis=-1), empty=empty)


def _balanced_accuracy(totals: Totals) -> Floats:
    occurs = totals.true > 0
    recall = divide(totals.hit, totals.true)
    return divide((recall * occurs).sum(axis=-1), occurs.sum(axis=-1), empty=np.nan)


def _mcc(totals: Totals) -> Floats:
    """Matthews' correlation coefficient for C classes (Gorodkin 2004); 0 where either side is constant."""
    true, decided = totals.with_none()
    rows = totals["rows"]
    covariance = totals["exact"] * rows - (true * decided).sum(axis=-1)
    spread = (rows**2 - (decided**2).sum(axis=-1)) * (rows**2 - (true**2).sum(axis=-1))
    return divide(covariance, np.sqrt(spread))


def _cohen_kappa(totals: Totals) -> Floats:
    """Cohen (1960); no value where truth and decisions are one and the same class throughout."""
    true, decided = totals.with_none()
    chance = divide((true * decided).sum(axis=-1), totals["rows"])
    return divide(totals["exact"] - chance, totals["rows"] - chance, empty=np.nan)


def _hamming_loss(totals: Totals) -> Floats:
    wrong = totals.decided + totals.true - 2 * totals.hit
    return divide(wrong.sum(axis=-1), totals["rows"] * wrong.shape[-1])


def _oos_recall(totals: Totals) -> Floats:
    return divide(totals["refused_rightly"], totals["rows"] - totals["in_scope"], empty=np.nan)


def _oos_precision(totals: Totals) -> Floats:
    """0 where every row was answered; no value where no row is out of scope."""
    found = divide(totals["refused_rightly"], totals["rows"] - totals["answered"])
    return np.where(totals["rows"] > totals["in_scope"], found, np.nan)


_COUNTS: dict[str, Callable[[Totals], Floats]] = {
    "accuracy": lambda t: divide(t["exact"], t["rows"], empty=np.nan),
    "balanced_accuracy": _balanced_accuracy,
    "mcc": _mcc,
    "cohen_kappa": _cohen_kappa,
    "hamming_loss": _hamming_loss,
    "in_scope_accuracy": lambda t: divide(t.hit.sum(axis=-1), t["in_scope"], empty=np.nan),
    "oos_recall": _oos_recall,
    "oos_precision": _oos_precision,
    "coverage": lambda t: divide(t["answered"], t["rows"], empty=np.nan),
    "selective_accuracy": lambda t: divide(t.hit.sum(axis=-1), t["answered"], empty=np.nan),
}

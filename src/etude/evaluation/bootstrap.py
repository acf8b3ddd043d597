"""Bootstrap intervals: how far a score might have been off, had other rows been drawn.

Rows are drawn with replacement as often as there are rows; the metrics of a thousand such samples spread
as the metric itself would over other samples of the same source (Efron 1979), and their middle 95 % is
the interval.

A sample is a row of weights (how often each row was drawn), never a copy of the data. Metrics that are sums
become one matrix product, and those of the order of scores sort each label once for all samples.
Draw r depends on the seed, r and the number of rows alone, so that two models are scored on the same samples.
Shapes: N rows, C classes, R resamples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from etude.core.rng import numpy_generator
from etude.core.task import Task
from etude.evaluation import ranking
from etude.evaluation.counts import Totals, extra_metrics, row_facts, score_from
from etude.evaluation.metrics import check_scores
from etude.evaluation.names import check_metric, default_metrics
from etude.evaluation.reliability import confidences

Floats = NDArray[np.float64]

PERCENTILES = (2.5, 97.5)
FEWEST = 100
"""Resamples that are drawn however many rows there are."""
_WORK = 5 * 10**9
"""Rows times classes times resamples: from more than this, fewer resamples are drawn."""
MOST_CONFIDENCES = 2**25
"""Of more entries than this, the calibration error has no interval: each would take 24 bytes."""
_CELLS = 2**21
"""Weights (resamples times rows) in memory at one time."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Where 95 % of the resampled values lie.

    Attributes:
        low, high: the 2.5th and the 97.5th percentile.
        resamples: how many resamples had a value; fewer than were asked for where a resample may lack all
            rows of a kind, or where the rows are very many.
    """

    low: float
    high: float
    resamples: int


def bootstrap(
    task: Task,
    probabilities: NDArray[Any],
    targets: NDArray[Any],
    decisions: NDArray[np.bool_] | None = None,
    *,
    names: Sequence[str] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Interval]:
    """Return the interval of each metric on one part of the data.

    A metric without any value is left out, as from the scores. The work is bounded: of 50,000 rows with 100
    labels still 1000 resamples are drawn, of 200,000 rows 250, and 100 of however many. An interval says of
    how many it is. The calibration error of more than 33 million entries has none.

    Args:
        task: the task.
        probabilities: (N, C) in [0, 1].
        targets: (N, C).
        decisions: (N, C); the task's plain decision where None.
        names: which metrics; those that :class:`~etude.evaluation.metrics.Metrics` would compute where None.
        resamples: R, at least 1.
        seed: the seed of the draws.

    Raises:
        DataError: a probability is not finite, or the shapes do not fit.
        ConfigError: a name is unknown, or is no metric of such a task.

    >>> from etude.core.task import Binary
    >>> truth = np.eye(2)[[0, 1] * 8 + [1, 0] * 2]
    >>> p = np.array([[0.8, 0.2], [0.3, 0.7]] * 10)
    >>> found = bootstrap(Binary(["no", "yes"]), p, truth, names=["accuracy"])["accuracy"]
    >>> found.low, found.high
    (0.6, 0.95)
    """
    samples = Samples(task, probabilities, targets, decisions, names=names)
    values = samples.draw(resamples, seed)
    return {name: interval(of_name) for name, of_name in values.items() if not np.isnan(of_name).all()}


def interval(values: Floats) -> Interval:
    """The interval of resampled values (R,), NaN being no value."""
    finite = values[~np.isnan(values)]
    low, high = np.percentile(finite, PERCENTILES)
    return Interval(float(low), float(high), len(finite))


def affordable(rows: int, classes: int, resamples: int) -> int:
    """How many resamples are drawn of so many rows: what was asked for, or what takes about a minute.

    >>> affordable(5427, 28, 1000), affordable(200_000, 100, 1000)
    (1000, 250)
    """
    return min(resamples, max(FEWEST, _WORK // max(1, rows * classes)))


class Samples:
    """One model's scores on N rows, prepared to be scored on any drawing of these rows.

    Arguments and errors are those of :func:`bootstrap`.
    """

    def __init__(
        self,
        task: Task,
        probabilities: NDArray[Any],
        targets: NDArray[Any],
        decisions: NDArray[np.bool_] | None = None,
        *,
        names: Sequence[str] | None = None,
    ) -> None:
        check_scores(task, probabilities, targets, decisions)
        chosen = task.decide(probabilities) if decisions is None else np.asarray(decisions, dtype=np.bool_)
        self._task, self._n = task, len(targets)
        self.metrics = [check_metric(name, task.kind) for name in names or _defaults(task)]
        self._facts = row_facts(task, self.metrics, probabilities, targets, chosen)
        if names is None:
            totals = Totals(self._facts.total(), task, self.metrics)
            self.metrics += [check_metric(name, task.kind) for name in extra_metrics(task, totals)]
        self._prepare_ranks(probabilities, targets)

    def _prepare_ranks(self, probabilities: NDArray[Any], targets: NDArray[Any]) -> None:
        """Sort what metrics of ranks will need."""
        wanted = {metric.name for metric in self.metrics if metric.source == "ranks"}
        inside = np.flatnonzero(self._facts.in_scope).astype(np.int32)
        self._labels: list[ranking.RankedLabel] = []
        self._confidence: ranking.RankedConfidence | None = None
        if wanted & {"roc_auc", "average_precision"}:
            scores, truth = ranking.by_label(self._task, probabilities, targets)
            self._labels = [ranking.RankedLabel(s, t, inside) for s, t in zip(scores.T, truth.T, strict=True)]
        if "ece" in wanted:
            confidence, right = confidences(self._task, probabilities, targets)
            rows = np.repeat(inside, len(confidence) // max(1, len(inside)))
            if len(rows) <= MOST_CONFIDENCES:
                self._confidence = ranking.RankedConfidence(confidence, right, rows)
            else:
                self.metrics = [metric for metric in self.metrics if metric.name != "ece"]

    def draw(self, resamples: int, seed: int) -> dict[str, Floats]:
        """The value (R,) of each metric on each drawing; NaN where it has none."""
        n = affordable(self._n, self._task.n_classes, resamples)
        if self._n == 0:
            return {}
        with _one_thread():
            blocks = [self.under(weights) for weights in drawings(self._n, n, seed)]
        return {m.name: np.concatenate([block[m.name] for block in blocks]) for m in self.metrics}

    def under(self, weights: NDArray[Any]) -> dict[str, Floats]:
        """The value (R,) of each metric where row n counts ``weights[r, n]`` times, a whole number."""
        totals = Totals(self._facts.weighted(weights), self._task, self.metrics)
        found: dict[str, Floats] = {}
        if self._labels:
            by_row = torch.from_numpy(np.ascontiguousarray(weights.T))
            each = [label.scores(by_row) for label in self._labels]
            auc, precision = (np.stack(of_all, axis=-1) for of_all in zip(*each, strict=True))
            found |= ranking.over_labels(self._task, auc, precision, totals.true)
        if self._confidence is not None:
            found["ece"] = self._confidence.ece(weights)
        return {m.name: found[m.name] if m.source == "ranks" else score_from(totals, m) for m in self.metrics}


def _defaults(task: Task) -> tuple[str, ...]:
    return default_metrics(task.kind, task.n_classes)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch work on one thread.

    Its tensors are small here, and on a busy processor two threads wait for each other most of the time.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def drawings(n_rows: int, resamples: int, seed: int) -> Iterator[NDArray[np.float32]]:
    """Yield how often each row is drawn, in blocks of resamples (R, N) whose size changes nothing.

    >>> [block.sum(axis=1).tolist() for block in drawings(5, 2, seed=0)]
    [[5.0, 5.0]]
    """
    size = max(1, _CELLS // n_rows)
    for start in range(0, resamples, size):
        numbers = range(start, min(start + size, resamples))
        weights = np.empty((len(numbers), n_rows), dtype=np.float32)
        for row, r in enumerate(numbers):
            drawn = numpy_generator(seed, "bootstrap", r).integers(n_rows, size=n_rows)
            weights[row] = np.bincount(drawn, minlength=n_rows)
        yield weights

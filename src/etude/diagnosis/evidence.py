"""What a diagnosis looks at, any part of which may be missing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from etude.config.run import Config
from etude.core.task import Task
from etude.diagnosis.noise import Measured, measure, rough
from etude.evaluation.scored import Scored


class Series(NamedTuple):
    """Numbers over optimizer steps; those that are not finite are left out and counted."""

    steps: NDArray[np.int64]
    values: NDArray[np.float64]
    epochs: NDArray[np.int64]
    n_broken: int = 0

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class RowLosses:
    """The loss of training rows over epochs.

    Attributes:
        rows: (N,) the row of the training file that each came from, counted from 0.
        losses: (N, E), nan where a row was not seen in an epoch.
        texts: (N,), or empty.
        labels: (N,) the labels that the data give to each row, or empty.
    """

    rows: NDArray[np.int64]
    losses: NDArray[np.float32]
    texts: Sequence[str] = ()
    labels: Sequence[Sequence[str]] = ()


@dataclass(frozen=True)
class Evidence:
    """What is known of a run.

    Attributes:
        task: the task, with its labels.
        history: the records of ``metrics.jsonl`` in their order.
        parts: ``"train"`` (a sample), ``"validation"`` and ``"test"``, as far as there are any.
        summary: what ``summary.json`` holds.
        losses: the loss of each training row over epochs.
        config: the run's config.
    """

    task: Task
    history: Sequence[Mapping[str, Any]] = ()
    parts: Mapping[str, Scored] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)
    losses: RowLosses | None = None
    config: Config | None = None

    @property
    def metric(self) -> str:
        """The task's main metric."""
        return self.task.main_metric

    @property
    def epochs(self) -> int | None:
        """The epochs that the run was to take."""
        return None if self.config is None else self.config.train.epochs

    def gradient_norms(self) -> Series:
        """The norm of all gradients together, before clipping."""
        return self._series("grad_norm")

    def training_losses(self) -> Series:
        """The training loss, each value being the mean since the one before."""
        return self._series("train", "loss")

    def validation(self, metric: str) -> Series:
        """A metric of the validation part over the run."""
        return self._series("validation", metric)

    def _series(self, *path: str) -> Series:
        found = [(record, _number(at(record, *path))) for record in self.history]
        given = [(record, value) for record, value in found if value is not None]
        good = [(record, value) for record, value in given if math.isfinite(value)]
        return Series(
            np.array([int(record.get("step", i)) for i, (record, _) in enumerate(good)], dtype=np.int64),
            np.array([value for _, value in good], dtype=np.float64),
            np.array([int(record.get("epoch", 0)) for record, _ in good], dtype=np.int64),
            len(given) - len(good),
        )

    def part(self, *names: str) -> tuple[str, Scored] | None:
        """The first of the parts that there are and hold a row."""
        for name in names:
            if name in self.parts and len(self.parts[name]) > 0:
                return name, self.parts[name]
        return None

    def score(self, part: str) -> Measured | None:
        """The main metric of a part with its interval, as the summary reports it or from the rows."""
        scored = self.parts.get(part)
        own = measure(scored) if scored is not None and len(scored) > 0 else None
        table = "training_sample" if part == "train" else "metrics"
        given = at(self.summary, table, self.metric) if part == "train" else None
        value = _number(given if part == "train" else at(self.summary, table, part, self.metric))
        if value is None or not math.isfinite(value):
            return own
        interval = at(self.summary, "intervals", part, self.metric)
        # Of a few rows that are all right every resample is right as well, which proves little.
        if _is_interval(interval) and interval[0] < interval[1]:
            return Measured(value, float(interval[0]), float(interval[1]))
        if own is not None:
            return Measured(value, value - (own.value - own.low), value + (own.high - own.value))
        rows = _number(at(self.summary, "rows", part))
        return rough(value, int(rows)) if rows else None


def at(table: Any, *path: str) -> Any:
    """Return what lies at the end of nested keys, or None.

    >>> at({"a": {"b": 1}}, "a", "b"), at({"a": 3}, "a", "b")
    (1, None)
    """
    for name in path:
        if not isinstance(table, Mapping) or name not in table:
            return None
        table = table[name]
    return table


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    return float(value) if is_number else None


def _is_interval(value: Any) -> bool:
    return (
        isinstance(value, Sequence)
        and len(value) == 2
        and all((number := _number(bound)) is not None and math.isfinite(number) for bound in value)
    )

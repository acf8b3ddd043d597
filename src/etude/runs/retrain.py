"""Train a run again with the epochs of its best score, in place of stopping early.

A run that is stopped early never sees the end of its schedule. Where the best epoch is known, a new run
of that many epochs has its learning rate fall to zero exactly there.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from etude.config.load import parse_config
from etude.config.run import Config
from etude.core.observe import Reporter
from etude.core.task import Task, make_task
from etude.diagnosis.convergence import Peak, peak
from etude.diagnosis.evidence import Evidence
from etude.diagnosis.noise import Measured, difference
from etude.errors import RunError
from etude.runs.folder import SUMMARY, RunFolder
from etude.runs.predictions import read_predictions
from etude.runs.train import Result, train


@dataclass(frozen=True)
class Retrained:
    """A run beside the one that it repeats.

    Attributes:
        old, new: the folders.
        metric: the task's main metric, on the validation part.
        peak: the best and the last evaluation of the old run.
        old_epochs: how many it took.
        before, after: the scores of the two models.
        change: the second minus the first with its 95 % interval, or None where the validation rows differ.
        result: the new run's.
    """

    old: Path
    new: Path
    metric: str
    peak: Peak
    old_epochs: int
    before: float
    after: float
    change: Measured | None
    result: Result

    @property
    def beyond_noise(self) -> bool | None:
        """Whether the interval of the difference leaves zero out; None where it is not known."""
        return None if self.change is None else not self.change.low <= 0 <= self.change.high

    def to_json(self) -> dict[str, Any]:
        """The comparison as plain values."""
        return {
            "old": str(self.old),
            "new": str(self.new),
            "metric": self.metric,
            "epochs": self.peak.epochs,
            "old_epochs": self.old_epochs,
            "before": self.before,
            "after": self.after,
            "difference": None if self.change is None else self.change._asdict(),
            "beyond_noise": self.beyond_noise,
        }


def retrain(
    folder: Path,
    *,
    directory: str | None = None,
    overrides: Sequence[str] = (),
    reporter: Reporter | None = None,
) -> Retrained:
    """Train a new run with as many epochs as the run in ``folder`` took to its best validation score.

    Args:
        folder: the finished run.
        directory: the new run's folder; that of the old one with the epochs behind it if None.
        overrides: further changes of the config, as ``"optimizer.lr=3e-5"``.
        reporter: who tells of progress.

    Raises:
        RunError: the run is not finished, has no validation scores, or its best epoch is its last.
        EtudeError: the new run cannot be trained.
    """
    reporter = reporter or Reporter()
    run, config = RunFolder.open(folder)
    task, before = finished(folder)
    found = _best(run, config, task)
    epochs = f"{found.epochs} epoch{'s' if found.epochs > 1 else ''}"
    reporter.line(
        f"{folder} was best after {epochs} of {config.train.epochs}: {task.main_metric} {found.score:.4f}, "
        f"and {found.last:.4f} at its end"
    )
    new = directory or f"{folder}-{found.epochs}ep"
    changes = [f"train.epochs={found.epochs}", f"run.dir={json.dumps(str(new))}", *overrides]
    result = train(
        parse_config(config.model_dump(mode="json", exclude_none=True), changes), reporter=reporter
    )
    after = result.scores.get("validation", {}).get(task.main_metric)
    if after is None:
        raise RunError(
            f"{new} was trained without a validation part, so that it cannot be compared; see it alone"
        )
    return Retrained(
        old=folder,
        new=result.folder,
        metric=task.main_metric,
        peak=found,
        old_epochs=config.train.epochs,
        before=before,
        after=after,
        change=paired_change(folder, result.folder, task),
        result=result,
    )


def finished(folder: Path) -> tuple[Task, float]:
    """Return the task of a finished run, and what its model scores on the validation part.

    Raises:
        RunError: it is not finished, or has no validation part.
    """
    try:
        summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        task = make_task(summary["task"], summary["labels"])
    except FileNotFoundError:
        raise RunError(f"the run {folder} is not finished; finish it with: etude resume {folder}") from None
    except (OSError, ValueError, KeyError) as error:
        raise RunError(f"{folder / SUMMARY} cannot be read: {error}; train the run again") from None
    score = summary.get("metrics", {}).get("validation", {}).get(task.main_metric)
    if score is None:
        raise RunError(
            f"the run {folder} has no validation part, so that no epoch of it is known to be the best; train "
            "it with data.validation set"
        )
    return task, float(score)


def peak_of(run: RunFolder, config: Config, task: Task) -> Peak:
    """Return the best and the last evaluation of a run; raises :class:`RunError` where there is none."""
    found = peak(Evidence(task, history=run.history(), config=config))
    if found is None:
        raise RunError(
            f"the run {run.path} logged no {task.main_metric} of its validation part; train it again with "
            "data.validation set"
        )
    return found


def _best(run: RunFolder, config: Config, task: Task) -> Peak:
    """The best evaluation, which must lie before the last epoch."""
    found = peak_of(run, config, task)
    if found.epochs >= config.train.epochs or found.step >= found.last_step:
        raise RunError(
            f"the best epoch of {run.path} is already its last, {found.epochs} of {config.train.epochs}, so "
            "that there is nothing to retrain; try more epochs with etude train --set train.epochs=N"
        )
    return found


def paired_change(old: Path, new: Path, task: Task) -> Measured | None:
    """Return the new model's score less the old one's, or None where they scored other validation rows."""
    first, second = (read_predictions(path, "validation", task) for path in (old, new))
    if first is None or second is None or not np.array_equal(first.rows, second.rows):
        return None
    return difference(second, first)

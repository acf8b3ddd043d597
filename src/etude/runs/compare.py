"""Compare two runs on the same rows: is one better, or had it the luck of these rows?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from etude.core.task import Task, make_task
from etude.errors import RunError
from etude.evaluation.metrics import Scores, score
from etude.evaluation.names import find_metric
from etude.evaluation.paired import Difference, McNemar, mcnemar, paired_bootstrap
from etude.evaluation.scored import Scored
from etude.runs.folder import PREDICTIONS, SUMMARY, RunFolder
from etude.runs.predictions import read_predictions

_SHOWN = 60
"""Characters of a text that a message shows."""


@dataclass(frozen=True)
class Comparison:
    """Two runs on the same rows of one part; differences are those of B minus A.

    Attributes:
        a, b: the runs' folders.
        part: which part of the data.
        rows: how many rows it has.
        main_metric: the metric by which the verdict is given.
        scores_a, scores_b: what each run reaches.
        differences: by metric, with interval and p; each p is of its metric alone.
        mcnemar: rows that one run alone has all labels right of.
    """

    a: str
    b: str
    part: str
    rows: int
    main_metric: str
    scores_a: Scores
    scores_b: Scores
    differences: dict[str, Difference]
    mcnemar: McNemar

    @property
    def better(self) -> str | None:
        """The folder of the run that is better by the main metric, beyond chance; None where neither is."""
        main = self.differences.get(self.main_metric)
        if main is None or not main.excludes_zero:
            return None
        return self.b if (main.low > 0) == find_metric(self.main_metric).greater_is_better else self.a

    @property
    def verdict(self) -> str:
        """The outcome in a sentence."""
        main = self.differences.get(self.main_metric)
        if main is None:
            return f"no difference can be shown: {self.main_metric} has no value on these {self.rows:,} rows"
        interval = f"95 % interval {main.low:+.4f} to {main.high:+.4f}"
        if self.better is None:
            return (
                f"no difference can be shown with {self.rows:,} rows: {self.main_metric} differs by "
                f"{main.difference:+.4f} ({interval}, which includes zero)"
            )
        return (
            f"{self.better} is better by {abs(main.difference):.4f} {self.main_metric} "
            f"(B - A: {interval}, which excludes zero)"
        )

    def to_json(self) -> dict[str, Any]:
        """Everything by name, for a file."""
        return asdict(self) | {"better": self.better, "verdict": self.verdict}


def compare(
    path_a: Path,
    path_b: Path,
    part: str = "test",
    *,
    names: Sequence[str] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Compare two runs by the predictions that they wrote for one part.

    Args:
        path_a: the folder of the first run.
        path_b: that of the second.
        part: ``"test"`` or ``"validation"``.
        names: which metrics; the task's default ones where None.
        resamples: how often the rows are drawn.
        seed: the seed of the draws.

    Raises:
        RunError: a folder holds no finished run or no such part, or the runs were not scored on the same rows
            with the same labels.
        ConfigError: a name is unknown, or is no metric of such a task.
    """
    a, b = read_part(path_a, part), read_part(path_b, part)
    b = _with_columns_of(a, b, path_a, path_b)
    a, b = _in_row_order(a), _in_row_order(b)
    _refuse_other_rows(a, b, path_a, path_b, part)
    task, targets = a.task, a.targets
    differences = paired_bootstrap(
        task,
        targets,
        (a.probabilities, a.decisions),
        (b.probabilities, b.decisions),
        names=names,
        resamples=resamples,
        seed=seed,
    )
    return Comparison(
        a=str(path_a),
        b=str(path_b),
        part=part,
        rows=len(a),
        main_metric=task.main_metric,
        scores_a=score(task, a.probabilities, targets, a.decisions, names),
        scores_b=score(task, b.probabilities, targets, b.decisions, names),
        differences=differences,
        mcnemar=mcnemar(_all_right(a), _all_right(b)),
    )


def read_part(path: Path, part: str) -> Scored:
    """Return the predictions of one part of a run.

    Raises:
        RunError: the folder holds no finished run, or none of such a part.
    """
    found = read_predictions(path, part, _task_of(path))
    if found is None:
        there = sorted(file.stem for file in (path / PREDICTIONS).glob("*.parquet"))
        raise RunError(
            f"{path} has no predictions of a {part} part, but of {', '.join(there) or 'none'}; choose "
            "another with --part, or train with data.test set"
        )
    return found


def _task_of(path: Path) -> Task:
    RunFolder.open(path)  # refuses what is no run
    try:
        summary = json.loads((path / SUMMARY).read_text(encoding="utf-8"))
        return make_task(summary["task"], summary["labels"])
    except FileNotFoundError:
        raise RunError(f"{path} has no scores yet; finish it with: etude resume {path}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path / SUMMARY} cannot be read: {error}; train the run again") from None


def _with_columns_of(a: Scored, b: Scored, path_a: Path, path_b: Path) -> Scored:
    """The second run's predictions with the labels in the order of the first one's."""
    if a.task.kind != b.task.kind:
        raise RunError(
            f"{path_a} is {a.task.kind} and {path_b} is {b.task.kind}; compare runs of the same task"
        )
    for one, other, path, rival in ((a, b, path_a, path_b), (b, a, path_b, path_a)):
        unknown = [label for label in one.task.labels if label not in other.task.labels]
        if unknown:
            raise RunError(
                f"label {unknown[0]!r} of {path} is unknown to {rival}; compare runs that were trained on "
                "the same labels"
            )
    columns = [b.task.position(label) for label in a.task.labels]
    return Scored(
        task=a.task,
        logits=b.logits[:, columns],
        probabilities=b.probabilities[:, columns],
        decisions=b.decisions[:, columns],
        targets=b.targets[:, columns],
        texts=b.texts,
        rows=b.rows,
    )


def _in_row_order(scored: Scored) -> Scored:
    order = np.argsort(scored.rows, kind="stable")
    return Scored(
        task=scored.task,
        logits=scored.logits[order],
        probabilities=scored.probabilities[order],
        decisions=scored.decisions[order],
        targets=scored.targets[order],
        texts=[scored.texts[row] for row in order.tolist()],
        rows=scored.rows[order],
    )


def _refuse_other_rows(a: Scored, b: Scored, path_a: Path, path_b: Path, part: str) -> None:
    """Refuse runs whose rows are not the same, text for text and label for label."""
    way_out = "both runs need the same data files, data settings and seed"
    for one, other, path in ((a, b, path_a), (b, a, path_b)):
        alone = np.setdiff1d(one.rows, other.rows)
        if len(alone):
            raise RunError(
                f"{path_a} and {path_b} have other {part} rows: row {alone[0]} is in {path} alone; {way_out}"
            )
    differs = (a.targets != b.targets).any(axis=1)
    for i, (text_a, text_b) in enumerate(zip(a.texts, b.texts, strict=True)):
        where = f"row {a.rows[i]} of the {part} part"
        if text_a != text_b:
            raise RunError(
                f"{where} is {_short(text_a)} in {path_a} and {_short(text_b)} in {path_b}; {way_out}"
            )
        if differs[i]:
            names_a, names_b = (", ".join(s.task.names(s.truth[i : i + 1])[0]) or "none" for s in (a, b))
            raise RunError(
                f"{where} has the labels {names_a} in {path_a} and {names_b} in {path_b}; {way_out}"
            )


def _short(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")


def _all_right(scored: Scored) -> Any:
    return (scored.decisions == scored.truth).all(axis=1)

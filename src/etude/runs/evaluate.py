"""Score a saved model on labelled data it has not seen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from etude.core.observe import Reporter
from etude.data.labels import encode_labels, read_labels
from etude.data.out_of_scope import check_scoped_part, set_aside
from etude.data.read import read_parts
from etude.data.table import Table
from etude.errors import RunError
from etude.evaluation.bootstrap import bootstrap
from etude.evaluation.metrics import Metrics, Scores
from etude.kinds import kind_of
from etude.runs.folder import CONFIG, RunFolder, find_model
from etude.runs.model import CHUNK, Classifier

MOST_ROWS_KEPT = 100_000
"""Rows up to which probabilities are kept in memory, for intervals."""


@dataclass(frozen=True)
class Evaluation:
    """The scores of a model on one file.

    Attributes:
        scores: by metric.
        intervals: by metric, the 2.5th and 97.5th percentile of the bootstrap; none for very many rows.
        per_class: precision, recall, F1 and rows of each label.
        rows: how many rows were scored.
    """

    scores: Scores
    intervals: dict[str, list[float]] = field(default_factory=dict)
    per_class: list[dict[str, Any]] = field(default_factory=list)
    rows: int = 0


def evaluate(
    path: Path, data: str | None = None, *, resamples: int = 1000, reporter: Reporter | None = None
) -> Evaluation:
    """Score the model of ``path`` on a file, chunk by chunk; without a file, on the run's test part.

    Raises:
        RunError: there is no model, or no file was named and the run has no test part.
        DataError: the file cannot be used, or holds a label that the model does not know.
    """
    reporter = reporter or Reporter()
    classifier = Classifier(find_model(path))
    tables = _test_part(path, classifier) if data is None else classifier.rows_of(data)
    task = classifier.task
    metrics = Metrics(task)
    schema = classifier.metadata["input"]
    kept: list[tuple[Any, Any, Any]] = []
    rows = 0
    with reporter.bar("scoring", None, "rows") as bar:
        for table in tables:
            out_of_scope = schema.get("out_of_scope")
            labels = set_aside(read_labels(table, schema["labels"], schema["label_separator"]), out_of_scope)
            check_scoped_part(labels, task, "the training part", out_of_scope)
            targets = encode_labels(labels, task)
            probabilities, decisions = classifier.decision.apply(classifier.logits_of_table(table))
            metrics.update(probabilities, targets, decisions)
            rows += table.rows
            if rows <= MOST_ROWS_KEPT:
                kept.append((probabilities, targets, decisions))
            bar.advance(table.rows)
    intervals: dict[str, list[float]] = {}
    if resamples and 1 < rows <= MOST_ROWS_KEPT:
        probabilities, targets, decisions = (np.concatenate(column) for column in zip(*kept, strict=True))
        found = bootstrap(task, probabilities, targets, decisions, resamples=resamples)
        intervals = {name: [interval.low, interval.high] for name, interval in found.items()}
    return Evaluation(metrics.compute(), intervals, metrics.per_class(), rows)


def _test_part(path: Path, classifier: Classifier) -> Iterator[Table]:
    """The rows of a run's test part: its file, or those that were drawn from the training file."""
    config = RunFolder.open(path)[1] if (path / CONFIG).is_file() else None
    if config is None or config.data.test is None:
        raise RunError(f"{path} names no test part; say which data to score: etude evaluate {path} DATA")
    if isinstance(config.data.test, str):
        return classifier.rows_of(config.data.test)
    part = read_parts(config, kind_of(config).loader()).rows["test"]
    starts = range(0, len(part.ids), CHUNK)
    return (part.table.take(part.ids[start : start + CHUNK].tolist()) for start in starts)

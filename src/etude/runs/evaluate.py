"""Score a saved model on labelled data it has not seen."""

from __future__ import annotations

from pathlib import Path

from etude.core.observe import Reporter
from etude.data.labels import check_part, encode_labels, read_labels
from etude.data.sources import stream_rows
from etude.errors import RunError
from etude.evaluation.metrics import Metrics, Scores
from etude.runs.folder import RunFolder, find_model
from etude.runs.model import CHUNK, Classifier


def evaluate(path: Path, data: str | None = None, *, reporter: Reporter | None = None) -> Scores:
    """Score the model of ``path`` on a file, chunk by chunk; without a file, on the run's test part.

    Raises:
        RunError: there is no model, or no file was named and the run has no test part.
        DataError: the file cannot be used, or holds a label that the model does not know.
    """
    reporter = reporter or Reporter()
    classifier = Classifier(find_model(path))
    source = data or _test_part(path)
    metrics = Metrics(classifier.task)
    schema = classifier.metadata["input"]
    with reporter.bar("scoring", None, "rows") as bar:
        for table in stream_rows(source, CHUNK):
            labels = read_labels(table, schema["labels"], schema["label_separator"])
            check_part(labels, classifier.task, "the training part")
            targets = encode_labels(labels, classifier.task)
            metrics.update(classifier.predict_table(table), targets)
            bar.advance(table.rows)
    return metrics.compute()


def _test_part(path: Path) -> str:
    found = None
    if (path / "config.toml").is_file():
        _, config = RunFolder.open(path)
        found = config.data.test
    if found is None:
        raise RunError(f"{path} names no test part; say which data to score: etude evaluate {path} DATA")
    return found

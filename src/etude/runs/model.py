"""The saved model: open it, predict with it, one text or a file of millions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etude.core.examples import Examples
from etude.core.observe import Reporter
from etude.core.predict import predict
from etude.core.task import Task, make_task
from etude.data.table import Table
from etude.data.writer import RowWriter
from etude.decision.postprocessor import Decision
from etude.kinds import open_saved
from etude.runs.build import choose_precision, make_accelerator
from etude.runs.folder import read_metadata

CHUNK = 4096
"""Rows of a file that are in memory at one time."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model says of one text: its labels, and the calibrated probability of every label."""

    labels: list[str]
    probabilities: dict[str, float]

    @property
    def label(self) -> str | None:
        """The label, or the first of several; None where no label holds, or where the model abstains."""
        return next(iter(self.labels), None)


class Classifier:
    """A trained model with its labels, its tokenizer and its decision.

    Attributes:
        folder: the model's folder.
        metadata: what ``etude.json`` says.
        task: the task, with the labels in the order of the probabilities.
        decision: from logits to calibrated probabilities and labels.
    """

    def __init__(self, folder: Path, *, precision: str = "auto") -> None:
        self.folder = folder
        self.metadata = read_metadata(folder)
        self.task: Task = make_task(self.metadata["task"], self.metadata["labels"])
        self.decision = Decision.from_json(self.task, self.metadata["decision"])
        self._accelerator = make_accelerator(choose_precision(precision))
        self._saved = open_saved(folder, self.metadata)
        self._model = self._accelerator.prepare_model(self._saved.backbone, evaluation_mode=True)

    def predict_proba(
        self,
        texts: Sequence[Any],
        pairs: Sequence[str] | None = None,
        *,
        reporter: Reporter | None = None,
    ) -> NDArray[np.float32]:
        """Return the calibrated probabilities (N, C) of the texts, in the order of ``self.task.labels``.

        Args:
            texts: the texts, or rows: mappings from the columns that the model was trained on to their cells.
            pairs: the second texts, where the model takes pairs and ``texts`` are no rows.
            reporter: who tells of progress.

        Raises:
            DataError: a text is empty or no string, or a row lacks a column.
        """
        return self.decision.apply(self._logits_of(texts, pairs, reporter))[0]

    def _logits_of(
        self, inputs: Sequence[Any], pairs: Sequence[str] | None, reporter: Reporter | None
    ) -> NDArray[np.float32]:
        if len(inputs) == 0:
            return np.zeros((0, self.task.n_classes), dtype=np.float32)
        return self._logits(self._saved.examples_of(inputs, pairs, reporter or Reporter()), reporter)

    def logits_of(self, examples: Examples, reporter: Reporter | None = None) -> NDArray[np.float32]:
        """Return the logits (N, C) of rows that are prepared already, as this model's own loader does."""
        return self._logits(examples, reporter)

    def _logits(self, examples: Examples, reporter: Reporter | None) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = predict(
            self._model, examples, self._accelerator, reporter=reporter
        ).numpy()
        return logits

    def predict(
        self,
        texts: Sequence[str | Mapping[str, Any]],
        pairs: Sequence[str] | None = None,
        *,
        reporter: Reporter | None = None,
    ) -> list[Prediction]:
        """Return labels and probabilities of the texts, or of rows, in their order.

        The labels are those over their thresholds; a model that may abstain gives none to a row that it is
        not certain of. Args and errors are those of :meth:`predict_proba`.
        """
        probabilities, decisions = self.decision.apply(self._logits_of(texts, pairs, reporter))
        names = self.task.names(decisions)
        return [
            Prediction(labels, dict(zip(self.task.labels, map(float, row), strict=True)))
            for labels, row in zip(names, probabilities, strict=True)
        ]

    def predict_file(
        self,
        source: str,
        output: str | None,
        *,
        text: str | None = None,
        reporter: Reporter | None = None,
    ) -> int:
        """Predict the rows of a file, or of standard input (``"-"``), chunk by chunk.

        Rows are written in the given order, with their own columns, the label or labels and the
        probability of each label; to standard output as JSON lines where ``output`` is None.

        Returns:
            How many rows were written.
        """
        reporter = reporter or Reporter()
        done = 0
        with (
            RowWriter(output) as writer,
            reporter.bar("predicting", None, "rows") as bar,
        ):
            for table in self.rows_of(source):
                writer.write(self._predicted(table, text))
                done += table.rows
                bar.advance(table.rows)
        return done

    def rows_of(self, source: str) -> Iterator[Table]:
        """Yield the rows of a file, or of what else this kind of model reads, chunk by chunk.

        Raises:
            DataError: it cannot be read.
        """
        return self._saved.stream(source, CHUNK)

    def logits_of_table(
        self, table: Table, text: str | None = None, *, reporter: Reporter | None = None
    ) -> NDArray[np.float32]:
        """Return the logits (N, C) of a table's rows; ``text`` names another text column.

        Raises:
            DataError: a column is missing, or a cell holds no text or no number.
        """
        return self._logits(self._saved.examples(table, reporter or Reporter(), text), reporter)

    def _predicted(self, table: Table, text: str | None) -> dict[str, list[Any]]:
        probabilities, decisions = self.decision.apply(self.logits_of_table(table, text))
        names = self.task.names(decisions)
        columns = self._saved.shown(table)
        single = self.task.kind != "multilabel"
        columns["predicted"] = [row[0] if row else None for row in names] if single else names
        rounded = probabilities.astype(np.float64).round(6)
        columns |= {f"p:{label}": rounded[:, c].tolist() for c, label in enumerate(self.task.labels)}
        return columns

"""The saved model: open it, predict with it, one text or a file of millions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etude.backbones.text import TextBackbone, load_saved, load_saved_tokenizer
from etude.core.observe import Reporter
from etude.core.predict import predict
from etude.core.task import Task, make_task
from etude.data.numeric import read_numbers
from etude.data.sources import stream_rows
from etude.data.table import Table
from etude.data.text import build_text_examples, check_texts
from etude.data.writer import RowWriter
from etude.decision.postprocessor import Decision
from etude.errors import DataError
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
        self._backbone: TextBackbone = load_saved(folder)
        self._tokenizer = load_saved_tokenizer(folder)
        self._model = self._accelerator.prepare_model(self._backbone, evaluation_mode=True)

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
        self, texts: Sequence[Any], pairs: Sequence[str] | None, reporter: Reporter | None
    ) -> NDArray[np.float32]:
        if any(isinstance(row, Mapping) for row in texts):
            return self.logits_of_table(_table_of(texts, pairs), reporter=reporter)
        return self._logits(texts, pairs, None, reporter=reporter, place="text {}".format)

    def _logits(
        self,
        texts: Sequence[Any],
        pairs: Sequence[str] | None,
        numbers: NDArray[np.float32] | None,
        *,
        reporter: Reporter | None,
        place: Callable[[int], str],
    ) -> NDArray[np.float32]:
        """Return the logits (N, C) of N texts with their standardised numbers (N, K), if any."""
        for row, text in enumerate(texts):
            if not isinstance(text, str) or not text.strip():
                raise DataError(f"{place(row)} is {text!r}; a text that is not empty is expected")
        if len(texts) == 0:
            return np.zeros((0, self.task.n_classes), dtype=np.float32)
        scale = self._backbone.scale
        if scale is not None and numbers is None:
            example = ", ".join(f"{name!r}: ..." for name in (self.metadata["input"]["text"], *scale.columns))
            raise DataError(
                f"this model reads {', '.join(scale.columns)} beside the text and was given texts alone; "
                f"give rows as {{{example}}}"
            )
        examples = build_text_examples(
            texts,
            pairs,
            None,
            None,
            self._tokenizer,
            self.metadata["input"]["max_length"],
            reporter or Reporter(),
            place=place,
            numbers=numbers,
        )
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
            for table in stream_rows(source, CHUNK):
                writer.write(self._predicted(table, text))
                done += table.rows
                bar.advance(table.rows)
        return done

    def logits_of_table(
        self, table: Table, text: str | None = None, *, reporter: Reporter | None = None
    ) -> NDArray[np.float32]:
        """Return the logits (N, C) of a table's rows; ``text`` names another text column.

        Raises:
            DataError: a column is missing, or a cell holds no text or no number.
        """
        schema = self.metadata["input"]
        texts = check_texts(table, text or schema["text"])
        pairs = check_texts(table, schema["text_pair"]) if schema["text_pair"] else None
        scale, numbers = self._backbone.scale, None
        if scale is not None:
            numbers = scale.apply(read_numbers(table, scale.columns, fill=scale.fill))
        return self._logits(texts, pairs, numbers, reporter=reporter, place=table.line)

    def _predicted(self, table: Table, text: str | None) -> dict[str, list[Any]]:
        probabilities, decisions = self.decision.apply(self.logits_of_table(table, text))
        names = self.task.names(decisions)
        columns: dict[str, list[Any]] = {name: table.column(name) for name in table.columns}
        single = self.task.kind != "multilabel"
        columns["predicted"] = [row[0] if row else None for row in names] if single else names
        rounded = probabilities.astype(np.float64).round(6)
        columns |= {f"p:{label}": rounded[:, c].tolist() for c, label in enumerate(self.task.labels)}
        return columns


def _table_of(rows: Sequence[Any], pairs: Sequence[str] | None) -> Table:
    """Return rows from Python as a table; they are counted from 0 there.

    Raises:
        DataError: not all are mappings, or second texts stand beside them.
    """
    if pairs is not None:
        raise DataError("pairs stand beside rows, which hold their second texts themselves; leave pairs out")
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise DataError(f"row {number} is {row!r} and others are mappings; give all rows in one way")
    columns = dict.fromkeys(name for row in rows for name in row)
    values = {name: [row.get(name) for row in rows] for name in columns}
    return Table("the list of rows", values, range(len(rows)))

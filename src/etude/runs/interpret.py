"""Interpret what a saved model says of texts: which words speak for a label, and which against it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from etude.backbones.text import load_saved
from etude.core.observe import Reporter
from etude.core.task import make_task
from etude.data.numeric import read_numbers
from etude.data.sources import read_table
from etude.data.text import build_text_examples, check_texts
from etude.decision.postprocessor import Decision
from etude.errors import ConfigError, DataError, RunError, closest
from etude.evaluation.attribution import (
    Empty,
    Interpretation,
    Method,
    Passage,
    attribute,
    log_odds,
    words_of,
)
from etude.extras import require
from etude.report.interpret import render_interpretations
from etude.runs.folder import find_model, read_metadata, whole_file

MOST_STEPS = 1_000


@dataclass(frozen=True)
class Question:
    """What is asked of every text.

    Attributes:
        labels: the labels in question; of each text the predicted ones, or the likeliest, if there are none.
        method: ``integrated_gradients`` or ``gradient_x_input``.
        steps: points on the way from the empty text, for integrated gradients.
        empty: what the empty text is made of: ``pad`` or ``mask`` tokens.
    """

    labels: Sequence[str] = ()
    method: Method = "integrated_gradients"
    steps: int = 50
    empty: Empty = "pad"

    def __post_init__(self) -> None:
        for name, given, known in (("method", self.method, Method), ("empty text", self.empty, Empty)):
            options = get_args(known)
            if given not in options:
                raise ConfigError(
                    f"{given!r} is no {name}{closest(given, options)}; there are {', '.join(options)}"
                )
        if not 1 <= self.steps <= MOST_STEPS:
            raise ConfigError(f"steps is {self.steps}; a number from 1 to {MOST_STEPS:,} is expected")


def interpret(
    path: Path,
    texts: Sequence[str],
    pairs: Sequence[str] | None = None,
    question: Question | None = None,
    *,
    reporter: Reporter | None = None,
) -> list[Interpretation]:
    """Interpret texts, each for every label in question.

    Args:
        path: a run's folder, or a saved model's.
        texts: (N,) what to interpret.
        pairs: (N,) the second texts, where the model takes pairs.
        question: which labels, and how; by default integrated gradients of the predicted labels.
        reporter: who tells of progress.

    Raises:
        RunError: there is no saved model, or its tokenizer does not tell where tokens stand.
        ConfigError: the empty text cannot be made, or captum is not installed.
        DataError: a text is empty, a label unknown, or the model wants a pair or numbers beside the text.
    """
    model = _Model(find_model(path))
    return _interpret(model, model.read(texts, pairs), question or Question(), reporter or Reporter())


def interpret_file(
    path: Path,
    file: str,
    question: Question | None = None,
    *,
    most_rows: int = 20,
    reporter: Reporter | None = None,
) -> list[Interpretation]:
    """Interpret the first rows of a file, whose columns are those that the model was trained on.

    Args and errors are those of :func:`interpret`; ``most_rows`` says how many rows.
    """
    reporter = reporter or Reporter()
    model = _Model(find_model(path))
    rows, n_left_out = model.read_file(file, most_rows)
    if n_left_out:
        reporter.line(f"interpreting the first {most_rows:,} rows of {file}; {n_left_out:,} are left out")
    return _interpret(model, rows, question or Question(), reporter)


def write_page(found: Sequence[Interpretation], model: Path, page: Path) -> None:
    """Write interpretations of a model as an HTML page.

    Raises:
        RunError: the disk refuses.
    """
    with whole_file(page, "name another file with --output") as file:
        file.write_text(render_interpretations(found, model=str(model)), encoding="utf-8")


@dataclass(frozen=True)
class _Row:
    """One text (or pair) as the model reads it, and what it says of it.

    Attributes:
        texts: the text, and the second one of a pair.
        inputs: (1, L) each, and numbers (1, K).
        owners: (L,) which of the texts each token is of; None for special tokens.
        spans: (L,) the token's characters in its text.
        cut: whether a text was longer than the model reads.
        probabilities: (C,), calibrated.
        predicted: the columns of the labels that hold.
    """

    texts: list[str]
    inputs: dict[str, Tensor]
    owners: list[int | None]
    spans: list[tuple[int, int]]
    cut: bool
    probabilities: NDArray[np.float32]
    predicted: list[int]

    def passages(self, values: Sequence[float]) -> list[Passage]:
        """The texts with their words, from what each token adds."""
        found = []
        for owner, text in enumerate(self.texts):
            tokens = [i for i, of in enumerate(self.owners) if of == owner]
            spans = [self.spans[i] for i in tokens]
            start, end = (spans[0][0], spans[-1][1]) if self.cut and spans else (0, len(text))
            # A tokenizer drops white space at the ends, which is not for want of room.
            start = start if text[:start].strip() else 0
            end = end if text[end:].strip() else len(text)
            found.append(Passage(text, start, end, words_of(text, spans, [values[i] for i in tokens])))
        return found


class _Model:
    """A saved model, ready for gradients: in float32 and evaluation mode, its weights held."""

    def __init__(self, folder: Path) -> None:
        require("captum.attr", extra="interpret", technique="etude interpret")
        metadata = read_metadata(folder)
        kind = metadata["input"].get("kind", "text")
        if kind != "text":
            raise RunError(
                f"the model in {folder} is of kind = {kind!r}, and what is interpreted are the words of a "
                "network over texts; name a run of kind = 'text'"
            )
        self.columns, self.max_length = metadata["input"], metadata["input"]["max_length"]
        self.task = make_task(metadata["task"], metadata["labels"])
        self.decision = Decision.from_json(self.task, metadata["decision"])
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.backbone = load_saved(folder).requires_grad_(requires_grad=False).to(self.device)
        if not self.backbone.tokenizer.is_fast:
            raise RunError(
                f"the tokenizer of {folder} ({type(self.backbone.tokenizer).__name__}) does not tell where "
                "in the text its tokens stand; train with a checkpoint that has a fast tokenizer"
            )

    def read(self, texts: Sequence[str], pairs: Sequence[str] | None) -> list[_Row]:
        """Read texts, and pairs where the model takes them."""
        if (pairs is None) != (self.columns["text_pair"] is None):
            wants, given = ("pairs of texts", "single texts") if pairs is None else ("single texts", "pairs")
            raise DataError(
                f"this model reads {wants} and was given {given}; give --pair with each --text, "
                "or leave it out"
            )
        if pairs is not None and len(pairs) != len(texts):
            raise DataError(f"there are {len(texts)} texts and {len(pairs)} second ones; give one for each")
        if self.backbone.scale is not None:
            columns = ", ".join(self.backbone.scale.columns)
            raise DataError(f"this model reads {columns} beside the text; give rows of a file with --file")
        for number, text in enumerate(texts):
            if not text.strip() or (pairs is not None and not pairs[number].strip()):
                raise DataError(f"text {number + 1} is empty; write a text there, or leave it out")
        return self._read(texts, pairs, None, lambda row: f"text {row + 1}")

    def read_file(self, file: str, most_rows: int) -> tuple[list[_Row], int]:
        """Read the first rows of a file; also say how many are left out."""
        whole = read_table(file, role="text")
        table = whole.take(range(min(most_rows, whole.rows)))
        second, scale = self.columns["text_pair"], self.backbone.scale
        texts = check_texts(table, self.columns["text"])
        pairs = None if second is None else check_texts(table, second)
        numbers = None
        if scale is not None:
            numbers = scale.apply(read_numbers(table, scale.columns, fill=scale.fill))
        return self._read(texts, pairs, numbers, table.line), whole.rows - table.rows

    def _read(
        self,
        texts: Sequence[str],
        pairs: Sequence[str] | None,
        numbers: NDArray[np.float32] | None,
        place: Callable[[int], str],
    ) -> list[_Row]:
        tokenizer, quiet = self.backbone.tokenizer, Reporter()
        examples = build_text_examples(
            texts, pairs, None, None, tokenizer, self.max_length, quiet, place=place, numbers=numbers
        )
        found = []
        for row, text in enumerate(texts):
            both = [text] if pairs is None else [text, pairs[row]]
            # It cuts as it did for the examples: the tokenizer keeps its settings.
            encoding = tokenizer.backend_tokenizer.encode(*both)
            special = encoding.special_tokens_mask
            inputs = examples.inputs(np.asarray([row]))
            inputs = {name: value.to(self.device) for name, value in inputs.items()}
            with torch.no_grad():
                logits = self.backbone(inputs).logits.float().cpu().numpy()
            probabilities, decisions = self.decision.apply(logits)
            owners = [None if special[i] else of for i, of in enumerate(encoding.sequence_ids)]
            found.append(
                _Row(
                    both,
                    inputs,
                    owners,
                    encoding.offsets,
                    bool(encoding.overflowing),
                    probabilities[0],
                    np.flatnonzero(decisions[0]).tolist(),
                )
            )
        return found

    def interpret(
        self, row: _Row, column: int, question: Question, advance: Callable[[int], None]
    ) -> Interpretation:
        """What speaks for one label of one text."""
        special = torch.tensor([owner is None for owner in row.owners], device=self.device)
        filling = self.backbone.pad_token_id if question.empty == "pad" else self.backbone.mask_token_id
        if filling is None:
            raise ConfigError("this model's tokenizer has no mask token; make the empty text of pad tokens")
        empty_ids = torch.where(special, row.inputs["input_ids"], filling)
        found = attribute(
            self.backbone,
            row.inputs,
            empty_ids,
            lambda logits: log_odds(self.task, logits, column),
            method=question.method,
            steps=question.steps,
            advance=advance,
        )
        values = found.values.tolist()
        return Interpretation(
            label=self.task.labels[column],
            predicted=[self.task.labels[c] for c in row.predicted],
            probability=float(row.probabilities[column]),
            passages=row.passages(values),
            method=question.method,
            steps=question.steps,
            score=found.score,
            empty_score=found.empty_score,
            special=sum(value for value, owner in zip(values, row.owners, strict=True) if owner is None),
            error=found.error if question.method == "integrated_gradients" else None,
        )


def _interpret(
    model: _Model, rows: Sequence[_Row], question: Question, reporter: Reporter
) -> list[Interpretation]:
    """Interpret every row for its labels, with a bar over all points that are passed."""
    asked = [model.task.position(label) for label in question.labels]
    wanted = [asked or row.predicted or [int(row.probabilities.argmax())] for row in rows]
    points = question.steps + 2 if question.method == "integrated_gradients" else 3
    with reporter.bar("interpreting", points * sum(map(len, wanted)), "points") as bar:
        return [
            model.interpret(row, column, question, bar.advance)
            for row, columns in zip(rows, wanted, strict=True)
            for column in columns
        ]

"""Loading: from a config to prepared training, validation and test parts of texts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from etude.config.numbers import NumberScale
from etude.config.run import Config, DataConfig
from etude.core.observe import Reporter
from etude.core.task import Task
from etude.data.labels import Labels, build_task, check_part, encode_labels, read_labels
from etude.data.numeric import constant_columns, fit_scale, read_numbers
from etude.data.sources import read_table
from etude.data.splits import split, subsample
from etude.data.table import Table
from etude.data.text import TextExamples, build_text_examples, check_texts
from etude.errors import DataError

Part = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class TextData:
    """All that a run needs of its data.

    Attributes:
        task: the task, with the labels of the training file in their order.
        train, validation, test: the prepared parts.
        texts: the raw texts of each part, for reports.
        pairs: the raw second texts of each part, empty without ``data.text_pair``.
        rows: for each part, the rows of the file that it came from, counted from 0.
        class_counts: (C,) training rows of each label; its sum of shares where labels are soft.
        soft_targets: whether training labels are distributions, and not all of them certain.
        scale: of the numeric columns beside the text, if there are any.
        warnings: sentences that the user should read.
    """

    task: Task
    train: TextExamples
    validation: TextExamples | None
    test: TextExamples | None
    texts: Mapping[Part, list[str]]
    pairs: Mapping[Part, list[str]]
    rows: Mapping[Part, NDArray[np.int64]]
    class_counts: NDArray[Any]
    soft_targets: bool
    scale: NumberScale | None
    warnings: list[str]


@dataclass(frozen=True)
class _Rows:
    """The checked rows of one part before they are tokenized."""

    table: Table
    labels: Labels
    texts: list[str]
    pairs: list[str] | None
    weights: NDArray[np.float32]
    numbers: NDArray[np.float64]
    ids: NDArray[np.int64]

    def take(self, rows: NDArray[np.int64]) -> _Rows:
        """Some of the rows."""
        chosen = rows.tolist()
        return _Rows(
            self.table,
            self.labels,
            [self.texts[row] for row in chosen],
            None if self.pairs is None else [self.pairs[row] for row in chosen],
            self.weights[rows],
            self.numbers[rows],
            self.ids[rows],
        )

    def fingerprints(self) -> list[str]:
        """What makes two rows the same: their texts, but for case and surrounding white space."""
        texts = [text.strip().casefold() for text in self.texts]
        if self.pairs is None:
            return texts
        return [f"{a}\0{b.strip().casefold()}" for a, b in zip(texts, self.pairs, strict=True)]


def load_text_data(config: Config, tokenizer: Any, reporter: Reporter) -> TextData:
    """Read, check, split and tokenize the parts that the config names.

    The test part is read so that its labels are checked before training, and for nothing else.

    Raises:
        DataError: a file, a row, a text, a label, a number or a weight cannot be used, or the parts do not
            fit each other.
    """
    data = config.data
    train, task, targets = _read_training(config)
    held_out, rest = _validation_and_training(config, task, train, targets)
    kept = rest.take(subsample(np.arange(len(rest.texts)), data.limit, config.seed))
    test = None if data.test is None else _read_part(data, data.test, "test", train, task)
    parts: dict[Part, _Rows] = {"train": kept}
    if held_out is not None:
        parts["validation"] = held_out
    if test is not None:
        parts["test"] = test
    scale = _fit_scale(data, kept)
    examples = {
        name: _prepare(part, task, scale, tokenizer, config.backbone.max_length, reporter)
        for name, part in parts.items()
    }
    soft, class_counts = _count_classes(examples["train"].targets.numpy())
    return TextData(
        task=task,
        train=examples["train"],
        validation=examples.get("validation"),
        test=examples.get("test"),
        texts={name: part.texts for name, part in parts.items()},
        pairs={name: part.pairs for name, part in parts.items() if part.pairs is not None},
        rows={name: part.ids for name, part in parts.items()},
        class_counts=class_counts,
        soft_targets=soft,
        scale=scale,
        warnings=[
            *_warn_of_shared_rows(parts),
            *_warn_of_absent_labels(task, class_counts),
            *_warn_of_cut_texts(examples["train"], config.backbone.max_length),
            *_warn_of_constants(data, kept),
        ],
    )


def _count_classes(targets: NDArray[np.float32]) -> tuple[bool, NDArray[Any]]:
    """Whether targets (N, C) are soft, and the rows of each class or its sum of shares."""
    soft = bool(((targets > 0) & (targets < 1)).any())
    counts = targets.sum(axis=0, dtype=np.float64)
    return soft, counts if soft else counts.astype(np.int64)


def _fit_scale(data: DataConfig, train: _Rows) -> NumberScale | None:
    """The scale of the rows that are trained on; those held out and left out have no part in it."""
    if not data.numeric:
        return None
    return fit_scale(train.table, data.numeric, train.numbers, fill=data.numeric_missing == "mean")


def _read_training(config: Config) -> tuple[_Rows, Task, NDArray[np.float32]]:
    table = read_table(config.data.train, role="train")
    labels = read_labels(table, config.data.labels, config.data.label_separator)
    rows = _check_rows(config.data, table, labels)
    task = build_task(config.task, labels)
    return rows, task, encode_labels(labels, task)


def _validation_and_training(
    config: Config, task: Task, train: _Rows, targets: NDArray[np.float32]
) -> tuple[_Rows | None, _Rows]:
    """The validation rows, if any, and the rows that stay for training."""
    choice = config.data.validation
    if choice is False:
        return None, train
    if isinstance(choice, str):
        return _read_part(config.data, choice, "validation", train, task), train
    kept, held_out = split(task, targets, choice, config.seed)
    return train.take(held_out), train.take(kept)


def _read_part(data: DataConfig, path: str, part: Part, train: _Rows, task: Task) -> _Rows:
    table = read_table(path, role=part)
    labels = read_labels(table, data.labels, data.label_separator, like=train.labels)
    check_part(labels, task, train.table.path)
    weighted = data.weight in table.columns  # only training cannot do without the weights asked for
    return _check_rows(data if weighted else data.model_copy(update={"weight": None}), table, labels)


def _check_rows(data: DataConfig, table: Table, labels: Labels) -> _Rows:
    """Check every text, weight and number of a part; a part other than training may have no weights."""
    return _Rows(
        table,
        labels,
        check_texts(table, data.text),
        None if data.text_pair is None else check_texts(table, data.text_pair),
        _read_weights(table, data.weight),
        read_numbers(table, data.numeric, fill=data.numeric_missing == "mean"),
        np.arange(table.rows),
    )


def _read_weights(table: Table, column: str | None) -> NDArray[np.float32]:
    """Example weights: finite numbers of 0 or more, not all of them 0."""
    weights = np.ones(table.rows, dtype=np.float32)
    if column is None:
        return weights
    for row, cell in enumerate(table.column(column)):
        try:
            weights[row] = float(cell)
        except (TypeError, ValueError):
            weights[row] = math.nan
        if not (weights[row] >= 0 and math.isfinite(weights[row])):
            raise DataError(
                f"{table.line(row, column)} holds {cell!r}, and a weight of 0 or more is expected"
            )
    if not weights.any():
        raise DataError(f"{table.path}, column {column!r} holds only zeros; some row needs a weight above 0")
    return weights


def _prepare(
    part: _Rows, task: Task, scale: NumberScale | None, tokenizer: Any, max_length: int, reporter: Reporter
) -> TextExamples:
    """Tokenize a part, encode its labels and scale its numbers."""
    return build_text_examples(
        part.texts,
        part.pairs,
        encode_labels(part.labels, task, part.ids),
        part.weights,
        tokenizer,
        max_length,
        reporter,
        place=lambda row: part.table.line(int(part.ids[row])),
        numbers=None if scale is None else scale.apply(part.numbers),
    )


def _warn_of_shared_rows(parts: Mapping[Part, _Rows]) -> list[str]:
    """Count the rows of validation and test whose text is in the training part."""
    seen = set(parts["train"].fingerprints())
    warnings = []
    for name, part in parts.items():
        shared = 0 if name == "train" else sum(key in seen for key in part.fingerprints())
        if shared:
            warnings.append(
                f"{shared} of {len(part.texts)} {name} rows have the same text as a training row, so the "
                f"{name} score is too good; remove the repeated rows"
            )
    return warnings


def _warn_of_absent_labels(task: Task, class_counts: NDArray[Any]) -> list[str]:
    absent = [task.labels[c] for c in np.flatnonzero(class_counts == 0)]
    if not absent:
        return []
    return [
        f"{len(absent)} of {task.n_classes} labels have no training row ({', '.join(absent[:5])}"
        f"{', ...' if len(absent) > 5 else ''}) and cannot be learned; add rows, or raise data.limit"
    ]


def _warn_of_cut_texts(train: TextExamples, max_length: int) -> list[str]:
    if not train.n_truncated:
        return []
    return [
        f"{train.n_truncated} of {len(train)} training texts are longer than {max_length} tokens and are "
        "cut; raise backbone.max_length to use more of them"
    ]


def _warn_of_constants(data: DataConfig, train: _Rows) -> list[str]:
    constant = constant_columns(data.numeric, train.numbers)
    return [
        f"column {column!r} of data.numeric holds the same number in all training rows and tells nothing; "
        "remove it"
        for column in constant
    ]

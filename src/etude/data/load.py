"""Loading: from a config to prepared training, validation and test parts of texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etude.config.numbers import NumberScale
from etude.config.run import Config, DataConfig
from etude.core.observe import Reporter
from etude.core.task import Task
from etude.data.lock import Locked
from etude.data.numeric import constant_columns, fit_scale
from etude.data.read import Part, PartRows, Parts, read_parts
from etude.data.splits import Rows
from etude.data.text import TextExamples, build_text_examples

__all__ = ["Part", "TextData", "TextPart", "load_text_data"]


@dataclass(frozen=True)
class TextPart:
    """One prepared part with what reports show of it.

    Attributes:
        examples: the tokenized texts with their targets.
        texts: (N,) the raw texts.
        pairs: (N,) the raw second texts, empty without ``data.text_pair``.
        rows: (N,) the rows of the file that it came from, counted from 0.
    """

    examples: TextExamples
    texts: list[str]
    pairs: list[str]
    rows: Rows

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class TextData:
    """All that a run needs of its data.

    Attributes:
        task: the task, with the labels of the training file in their order.
        train, validation: the prepared parts.
        test: the test part, which only the final scoring unlocks.
        texts: the raw texts of the training and the validation part, for reports.
        pairs: their raw second texts, empty without ``data.text_pair``.
        rows: the rows of the file that each of them came from, counted from 0.
        class_counts: (C,) training rows of each label; its sum of shares where labels are soft.
        soft_targets: whether training labels are distributions, and not all of them certain.
        scale: of the numeric columns beside the text, if there are any.
        warnings: sentences that the user should read.
        notes: sentences on how the parts came about.
    """

    task: Task
    train: TextExamples
    validation: TextExamples | None
    test: Locked[TextPart] | None
    texts: Mapping[Part, list[str]]
    pairs: Mapping[Part, list[str]]
    rows: Mapping[Part, NDArray[np.int64]]
    class_counts: NDArray[Any]
    soft_targets: bool
    scale: NumberScale | None
    warnings: list[str]
    notes: list[str] = field(default_factory=list)


def load_text_data(config: Config, tokenizer: Any, reporter: Reporter) -> TextData:
    """Read, check, split and tokenize the parts that the config names.

    The test part is read so that its rows are checked before training and shared rows are counted, and is
    then locked.

    Raises:
        DataError: a file, a row, a text, a label, a number or a weight cannot be used, or the parts do not
            fit each other.
    """
    found = read_parts(config)
    scale = _fit_scale(config.data, found.rows["train"])
    parts = {
        name: _prepare(part, found.task, scale, tokenizer, config.backbone.max_length, reporter)
        for name, part in found.rows.items()
    }
    train, validation, test = parts["train"], parts.get("validation"), parts.pop("test", None)
    soft, class_counts = _count_classes(train.examples.targets.numpy())
    return TextData(
        task=found.task,
        train=train.examples,
        validation=None if validation is None else validation.examples,
        test=None if test is None else Locked(test),
        texts={name: part.texts for name, part in parts.items()},
        pairs={name: part.pairs for name, part in parts.items() if part.pairs},
        rows={name: part.rows for name, part in parts.items()},
        class_counts=class_counts,
        soft_targets=soft,
        scale=scale,
        warnings=[
            *_warn_of_shared_rows(found.rows),
            *_warn_of_lonely_labels(config.data, found),
            *_warn_of_absent_labels(found.task, class_counts),
            *_warn_of_cut_texts(train.examples, config.backbone.max_length),
            *_warn_of_constants(config.data, found.rows["train"]),
        ],
        notes=found.notes,
    )


def _count_classes(targets: NDArray[np.float32]) -> tuple[bool, NDArray[Any]]:
    """Whether targets (N, C) are soft, and the rows of each class or its sum of shares."""
    soft = bool(((targets > 0) & (targets < 1)).any())
    counts = targets.sum(axis=0, dtype=np.float64)
    return soft, counts if soft else counts.astype(np.int64)


def _fit_scale(data: DataConfig, train: PartRows) -> NumberScale | None:
    """The scale of the rows that are trained on; those held out and left out have no part in it."""
    if not data.numeric:
        return None
    return fit_scale(train.table, data.numeric, train.numbers, fill=data.numeric_missing == "mean")


def _prepare(
    part: PartRows, task: Task, scale: NumberScale | None, tokenizer: Any, max_length: int, reporter: Reporter
) -> TextPart:
    """Tokenize a part, encode its labels and scale its numbers."""
    examples = build_text_examples(
        part.texts,
        part.pairs,
        part.targets(task),
        part.weights,
        tokenizer,
        max_length,
        reporter,
        place=lambda row: part.table.line(int(part.ids[row])),
        numbers=None if scale is None else scale.apply(part.numbers),
    )
    return TextPart(examples, part.texts, part.pairs or [], part.ids)


def _warn_of_shared_rows(parts: Mapping[Part, PartRows]) -> list[str]:
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


def _warn_of_lonely_labels(data: DataConfig, found: Parts) -> list[str]:
    if not found.lonely:
        return []
    return [
        f"{len(found.lonely)} of {found.task.n_classes} labels have a single row in {data.train} "
        f"({_some(found.lonely)}), which cannot be both learned and measured; add rows"
    ]


def _warn_of_absent_labels(task: Task, class_counts: NDArray[Any]) -> list[str]:
    absent = [task.labels[c] for c in np.flatnonzero(class_counts == 0)]
    if not absent:
        return []
    return [
        f"{len(absent)} of {task.n_classes} labels have no training row ({_some(absent)}) and "
        "cannot be learned; add rows, or raise data.limit"
    ]


def _warn_of_cut_texts(train: TextExamples, max_length: int) -> list[str]:
    if not train.n_truncated:
        return []
    return [
        f"{train.n_truncated} of {len(train)} training texts are longer than {max_length} tokens and are "
        "cut; raise backbone.max_length to use more of them"
    ]


def _warn_of_constants(data: DataConfig, train: PartRows) -> list[str]:
    constant = constant_columns(data.numeric, train.numbers)
    return [
        f"column {column!r} of data.numeric holds the same number in all training rows and tells nothing; "
        "remove it"
        for column in constant
    ]


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")

"""Loading: from a config to prepared training, validation and test parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etude.config.run import Config, DataConfig
from etude.core.examples import Examples
from etude.core.observe import Reporter
from etude.core.task import Task
from etude.data.loader import Loader
from etude.data.lock import Locked
from etude.data.pseudo_labels import read_pseudo_labels
from etude.data.read import Part, PartRows, Parts, read_parts
from etude.data.splits import Rows
from etude.data.table import Table

__all__ = ["Data", "Part", "Prepared", "load_data"]


@dataclass(frozen=True)
class Prepared:
    """One prepared part with what reports show of it.

    Attributes:
        examples: the inputs with their targets.
        texts: (N,) what reports show of each row; for texts the text itself.
        pairs: (N,) the raw second texts, empty without ``data.text_pair``.
        rows: (N,) the rows of the file that it came from, counted from 0.
    """

    examples: Examples
    texts: list[str]
    pairs: list[str]
    rows: Rows

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class Data:
    """All that a run needs of its data.

    Attributes:
        task: the task, with the labels of the training file in their order.
        train, validation: the prepared parts.
        test: the test part, which only the final scoring unlocks.
        texts: what reports show of the rows of the training and the validation part.
        pairs: their raw second texts, empty without ``data.text_pair``.
        rows: the rows of the file that each of them came from, counted from 0.
        class_counts: (C,) training rows of each label; its sum of shares where labels are soft.
        soft_targets: whether training labels are distributions, and not all of them certain.
        fitted: what the loader learned from the training rows and a saved model keeps; or none.
        warnings: sentences that the user should read.
        pool: the training rows and behind them those without labels, whose targets are zeros; the training
            rows alone where there are none.
        notes: sentences on how the parts came about.
    """

    task: Task
    train: Examples
    validation: Examples | None
    test: Locked[Prepared] | None
    texts: Mapping[Part, list[str]]
    pairs: Mapping[Part, list[str]]
    rows: Mapping[Part, NDArray[np.int64]]
    class_counts: NDArray[Any]
    soft_targets: bool
    fitted: Any
    warnings: list[str]
    pool: Examples
    notes: list[str] = field(default_factory=list)

    @property
    def n_unlabelled(self) -> int:
        """The rows without labels."""
        return len(self.pool) - len(self.train)


def load_data(
    config: Config, loader: Loader, reporter: Reporter, tables: Mapping[str, Table] | None = None
) -> Data:
    """Read, check, split and prepare the parts that the config names.

    The test part is read so that its rows are checked before training and shared rows are counted, and is
    then locked.

    Args:
        config: the run's.
        loader: of its kind of data, made anew.
        reporter: shows bars.
        tables: tables in memory in the place of files, by part.

    Raises:
        DataError: a file, a row, an input, a label or a weight cannot be used, or the parts do not fit each
            other.
    """
    found = read_parts(config, loader, tables)
    loader.fit(found.rows["train"].content)
    parts = {name: _prepare(part, found.task, loader, reporter) for name, part in found.rows.items()}
    if config.data.pseudo_labels is not None:
        parts["train"] = _prepare_taught(found, config.data.pseudo_labels, loader, reporter)
    train, validation, test = parts["train"], parts.get("validation"), parts.pop("test", None)
    without = found.unlabelled is None or config.data.pseudo_labels is not None
    soft, class_counts = _count_classes(train.examples.targets.numpy())
    return Data(
        task=found.task,
        train=train.examples,
        validation=None if validation is None else validation.examples,
        test=None if test is None else Locked(test),
        texts={name: part.texts for name, part in parts.items()},
        pairs={name: part.pairs for name, part in parts.items() if part.pairs},
        rows={name: part.rows for name, part in parts.items()},
        class_counts=class_counts,
        soft_targets=soft,
        fitted=loader.fitted,
        warnings=[
            *_warn_of_shared_rows(found.rows, loader.same),
            *_warn_of_lonely_labels(config.data, found),
            *_warn_of_absent_labels(found.task, class_counts),
            *loader.warnings(found.rows["train"].content, train.examples),
        ],
        pool=train.examples if without else _prepare_pool(found, loader, reporter),
        notes=found.notes,
    )


def _count_classes(targets: NDArray[np.float32]) -> tuple[bool, NDArray[Any]]:
    """Whether targets (N, C) are soft, and the rows of each class or its sum of shares."""
    soft = bool(((targets > 0) & (targets < 1)).any())
    counts = targets.sum(axis=0, dtype=np.float64)
    return soft, counts if soft else counts.astype(np.int64)


def _prepare(part: PartRows, task: Task, loader: Loader, reporter: Reporter) -> Prepared:
    """Prepare a part's inputs, and encode its labels."""
    content = part.content
    examples = loader.prepare(
        content,
        part.targets(task),
        part.weights,
        reporter,
        lambda row: part.table.line(int(part.ids[row])),
    )
    return Prepared(examples, content.shown(), getattr(content, "pairs", None) or [], part.ids)


def _prepare_pool(found: Parts, loader: Loader, reporter: Reporter) -> Examples:
    """Prepare the training rows and behind them those without labels."""
    part, others = found.rows["train"], found.unlabelled
    if others is None:
        raise ValueError("there are no rows without labels")
    n, n_others = len(part), len(others)
    targets = np.concatenate(
        [part.targets(found.task), np.zeros((n_others, found.task.n_classes), np.float32)]
    )

    def place(row: int) -> str:
        first = row < n
        return part.table.line(int(part.ids[row])) if first else others.table.line(int(others.ids[row - n]))

    weights = np.concatenate([part.weights, np.ones(n_others, np.float32)])
    return loader.prepare(part.content.join(others.content), targets, weights, reporter, place)


def _prepare_taught(found: Parts, path: str, loader: Loader, reporter: Reporter) -> Prepared:
    """Prepare the rows that a file of pseudo-labels names, with its targets, as the training part.

    Rows of a file without labels are counted on from those of the training file.
    """
    part, others = found.rows["train"], found.unlabelled
    n, n_others = len(part), 0 if others is None else len(others)
    taught = read_pseudo_labels(Path(path), found.task, n + n_others)
    content, ids = part.content, part.ids
    if others is not None:
        content = content.join(others.content)
        ids = np.concatenate([ids, others.ids + (0 if others.table is part.table else part.table.rows)])

    def place(row: int) -> str:
        at = int(taught.rows[row])
        if others is None or at < n:
            return part.table.line(int(part.ids[at]))
        return others.table.line(int(others.ids[at - n]))

    content = content.take(taught.rows)
    examples = loader.prepare(content, taught.targets, taught.weights, reporter, place)
    found.notes.append(f"{len(taught.rows)} rows are learned under the labels of {path}")
    return Prepared(examples, content.shown(), getattr(content, "pairs", None) or [], ids[taught.rows])


def _warn_of_shared_rows(parts: Mapping[Part, PartRows], same: str) -> list[str]:
    """Count the rows of validation and test whose inputs are in the training part."""
    seen = set(parts["train"].content.fingerprints())
    warnings = []
    for name, part in parts.items():
        shared = 0 if name == "train" else sum(key in seen for key in part.content.fingerprints())
        if shared:
            warnings.append(
                f"{shared} of {len(part)} {name} rows have {same} as a training row, so the "
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


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")

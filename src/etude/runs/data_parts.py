"""The parts that a config names, read on past every fault: what is usable, and all that is not.

Training refuses the first faulty row. Here a faulty row is noted and left out, so that a checkup can
list all of them and still say something of the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etude.config.run import Config, DataConfig
from etude.core.task import Task
from etude.data.folds import make_folds, rows_of_fold
from etude.data.groups_and_times import read_groups, read_times
from etude.data.labels import Labels, encode_labels, read_labels
from etude.data.numeric import read_numbers
from etude.data.out_of_scope import build_scoped_task, refuse_unknown, set_aside
from etude.data.profile import Column, describe_columns, is_null
from etude.data.salvage import Fault, fault_of, read_what_can_be_read, retry, sift
from etude.data.splits import split, subsample
from etude.data.table import Table
from etude.data.text import check_texts
from etude.errors import DataError, closest
from etude.evaluation.scored import true_labels


@dataclass(frozen=True)
class PartRows:
    """The usable rows of one part.

    Attributes:
        table: the rows, with the numbers that they have in their file.
        texts: (N,) the texts.
        pairs: (N,) second texts, or none.
        numbers: (N, K) of data.numeric; NaN where a number is missing.
        targets: (N, C) from 0 to 1; a row without a label may be out of scope.
        truth: (N, C), the labels that the targets stand for.
        groups: (N,) of data.group, or none.
        times: (N,) of data.time, or none.
    """

    table: Table
    texts: Sequence[str]
    pairs: Sequence[str] | None
    numbers: NDArray[np.float64]
    targets: NDArray[np.float32]
    truth: NDArray[np.bool_]
    groups: Sequence[str] | None
    times: NDArray[np.float64] | None

    @property
    def rows(self) -> int:
        """N."""
        return self.table.rows

    def names(self, row: int, labels: Sequence[str]) -> list[str]:
        """The labels of one row."""
        return [labels[c] for c in np.flatnonzero(self.truth[row]).tolist()] if self.truth.size else []

    def take(self, rows: NDArray[np.int64]) -> PartRows:
        """Some of the rows."""
        chosen = rows.tolist()
        return PartRows(
            self.table.take(chosen),
            [self.texts[row] for row in chosen],
            None if self.pairs is None else [self.pairs[row] for row in chosen],
            self.numbers[rows],
            self.targets[rows],
            self.truth[rows],
            None if self.groups is None else [self.groups[row] for row in chosen],
            None if self.times is None else self.times[rows],
        )


@dataclass(frozen=True)
class File:
    """A file as it is, faulty rows included: its rows that can be read, and its columns."""

    path: str
    rows: int
    columns: list[Column]


@dataclass(frozen=True)
class Parts:
    """All that could be read.

    Attributes:
        task: the task, or none where the labels make none.
        found: the usable rows of each part; training is always among them.
        files: the files by the part that they are named for.
        faults: all that cannot be used.
        notes: what was done that the reader should know of, in sentences without their full stop.
        written: the labels of the training file as they stand there, or none where they cannot be read.
    """

    task: Task | None
    found: Mapping[str, PartRows]
    files: Mapping[str, File]
    faults: Sequence[Fault]
    notes: Sequence[str]
    written: Labels | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels in the task's order."""
        return () if self.task is None else self.task.labels


@dataclass
class _Reading:
    """What has been collected on the way."""

    files: dict[str, File] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def note(self, found: tuple[Table, list[Fault]]) -> Table:
        """Keep the faults, and return the table."""
        self.faults += found[1]
        return found[0]


def read_parts(config: Config) -> Parts:
    """Read every part that a config names.

    Raises:
        DataError: the training file cannot be read at all, or lacks a column that the config names.
    """
    data, reading = config.data, _Reading()
    table = _usable(data, _read(data, data.train, "train", reading), "train", reading)
    labels, task, table = _training_labels(config, table, reading)
    if labels is None or task is None:
        whole = {"train": _rows(data, table, None, None)}
        return Parts(None, whole, reading.files, reading.faults, reading.notes)
    found = {"train": _rows(data, table, labels, task)}
    for name, source in (("validation", data.validation), ("test", data.test)):
        if isinstance(source, str):
            part = _other_part(data, source, name, labels, task, reading)
            if part is not None:
                found[name] = part
    try:
        found = _split(config, task, found)
    except DataError as error:
        reading.faults.append(fault_of("train", data.train, error))
    if data.out_of_scope is not None:
        _note_out_of_scope(data.out_of_scope, found, labels, reading)
        found["train"] = found["train"].take(np.flatnonzero(found["train"].truth.any(axis=1)))
    found["train"] = found["train"].take(subsample(np.arange(found["train"].rows), data.limit, config.seed))
    ordered: dict[str, PartRows] = {}
    for name in ("train", "validation", "test"):
        if name in found:
            ordered[name] = found[name]
    return Parts(task, ordered, reading.files, reading.faults, reading.notes, labels)


def read_another(config: Config, parts: Parts, path: str) -> PartRows:
    """Read a labelled file that is no part of the config, to compare with.

    Raises:
        DataError: it cannot be used, or any row of it cannot.
    """
    reading = _Reading()
    if parts.task is None or parts.written is None:
        raise DataError(f"{path} cannot be compared with {config.data.train}, whose labels make no task")
    found = _other_part(config.data, path, "test", parts.written, parts.task, reading)
    if reading.faults or found is None:
        raise DataError(reading.faults[0].sentence if reading.faults else f"{path} holds no usable row")
    return found


def _read(data: DataConfig, path: str, part: str, reading: _Reading) -> Table:
    """Read what can be read of a file, and make sure of its columns."""
    table = reading.note(read_what_can_be_read(path, part))
    reading.files[part] = File(path, table.rows, describe_columns(table))
    for column in _columns(data, part):
        table.column(column)
    return table


def _columns(data: DataConfig, part: str) -> list[str]:
    """The columns that a part needs."""
    labels = [data.labels] if isinstance(data.labels, str) else data.labels
    others = [data.text_pair, *((data.group, data.time, data.weight) if part == "train" else ())]
    return [data.text, *labels, *data.numeric, *(column for column in others if column is not None)]


def _usable(data: DataConfig, table: Table, part: str, reading: _Reading) -> Table:
    """Leave out the rows whose text, number, weight, group, time or label cannot be used for itself."""

    def checked(columns: Sequence[str], check: Callable[[Table], Any]) -> Table:
        return reading.note(sift(table, part, columns, check)) if table.rows else table

    for column in (data.text, data.text_pair):
        if column is not None:
            table = checked([column], lambda rows, c=column: check_texts(rows, c))  # type: ignore[misc]
    if data.numeric:
        fill = data.numeric_missing == "mean"
        table = checked(data.numeric, lambda rows: read_numbers(rows, data.numeric, fill=fill))
    if data.weight is not None and data.weight in table.columns:
        table = checked([data.weight], lambda rows: _check_weights(rows, data.weight or ""))
    if data.group is not None:
        table = checked([data.group], lambda rows: read_groups(rows, data.group or ""))
    if data.time is not None:
        table = checked([data.time], lambda rows: read_times(rows, data.time or ""))
    return reading.note(without_empty_labels(table, part, data.labels, data.label_separator))


def _check_weights(table: Table, column: str) -> None:
    for row, cell in enumerate(table.column(column)):
        try:
            good = 0 <= float(cell) < np.inf
        except (TypeError, ValueError):
            good = False
        if not good:
            raise DataError(
                f"{table.line(row, column)} holds {cell!r}, and a weight of 0 or more is expected"
            )


def without_empty_labels(
    table: Table, part: str, labels: str | Sequence[str], separator: str | None
) -> tuple[Table, list[Fault]]:
    """Leave out the rows that have no label; what is wrong with others shows when all are read."""
    columns = [labels] if isinstance(labels, str) else labels
    kept, faults = [], []
    for row in range(table.rows):
        empty = [column for column in columns if _is_empty(table.column(column)[row], separator)]
        if empty:
            sentence = f"{table.line(row, empty[0])} has no label; give it one, or remove the row"
            faults.append(Fault(part, table.path, table.numbers[row], empty[0], sentence))
        else:
            kept.append(row)
    return (table if not faults else table.take(kept)), faults


def _is_empty(cell: Any, separator: str | None) -> bool:
    return is_null(cell) or (separator is None and isinstance(cell, str) and not cell.strip())


def _training_labels(
    config: Config, table: Table, reading: _Reading
) -> tuple[Labels | None, Task | None, Table]:
    """Labels and task of the training file, and the rows that have part in them."""
    data = config.data
    if not table.rows:
        return None, None, table

    def read(rows: Table) -> tuple[Labels, Task]:
        labels = read_labels(rows, data.labels, data.label_separator)
        return labels, build_scoped_task(config.task, set_aside(labels, data.out_of_scope), data.out_of_scope)

    found, table, faults = retry(table, "train", read, column=_one_column(data))
    reading.faults += faults
    return (None, None, table) if found is None else (*found, table)


def _one_column(data: DataConfig) -> str | None:
    """The column of the labels, where there is one."""
    return data.labels if isinstance(data.labels, str) else None


def _other_part(
    data: DataConfig, path: str, name: str, like: Labels, task: Task, reading: _Reading
) -> PartRows | None:
    """The usable rows of a file that is not the training one, or nothing."""
    try:
        table = _read(data, path, name, reading)
    except DataError as error:
        reading.faults.append(fault_of(name, path, error))
        return None
    data = _present(data, table)
    table = _usable(data, table, name, reading)
    if not table.rows:
        return None

    def read(rows: Table) -> Labels:
        return read_labels(rows, data.labels, data.label_separator, like=like)

    labels, table, faults = retry(table, name, read, column=_one_column(data))
    reading.faults += faults
    if labels is None:
        return None
    reading.faults += _unknown_labels(data, name, labels, task)
    known = {*task.labels, data.out_of_scope}
    kept = [row for row, names in enumerate(labels.names) if known.issuperset(names)]
    if not kept:
        return None
    table = table.take(kept)
    return _rows(data, table, read(table), task)


def _present(data: DataConfig, table: Table) -> DataConfig:
    """The settings without the columns that only the training file must have."""
    absent = {key: None for key in ("weight", "group", "time") if getattr(data, key) not in table.columns}
    return data.model_copy(update=absent)


def _unknown_labels(data: DataConfig, name: str, labels: Labels, task: Task) -> list[Fault]:
    """Every label of a part that training never saw, with how many rows have it and the first of them."""
    known = {*task.labels, data.out_of_scope}
    rows: dict[str, list[int]] = {}
    for row, names in enumerate(labels.names):
        for label in names:
            if label not in known:
                rows.setdefault(label, []).append(row)
    table = labels.table
    return [
        Fault(
            name,
            table.path,
            table.numbers[found[0]],
            labels.column,
            f"{table.line(found[0], labels.column)} holds the label {label!r}, which {len(found):,} row(s) "
            f"of this part have and {data.train} never has{closest(label, task.labels)}; correct the label, "
            "or add training rows for it",
        )
        for label, found in rows.items()
    ]


def _rows(data: DataConfig, table: Table, labels: Labels | None, task: Task | None) -> PartRows:
    """The rows of a table that has been checked; without a task they have no targets."""
    if task is None or labels is None:
        targets = np.zeros((table.rows, 0), dtype=np.float32)
        truth = targets > 0
    else:
        targets = encode_labels(set_aside(labels, data.out_of_scope), task)
        truth = true_labels(task, targets)
    return PartRows(
        table,
        table.column(data.text),
        None if data.text_pair is None else table.column(data.text_pair),
        read_numbers(table, data.numeric, fill=True) if data.numeric else np.zeros((table.rows, 0)),
        targets,
        truth,
        None if data.group is None else read_groups(table, data.group),
        None if data.time is None else read_times(table, data.time),
    )


def _split(config: Config, task: Task, found: dict[str, PartRows]) -> dict[str, PartRows]:
    """Take a test and a validation part out of the training file where the config asks for fractions."""
    data, train = config.data, found["train"]
    n_whole = train.rows
    found = dict(found)
    for part, size in (("test", data.test), ("validation", data.validation)):
        if part == "validation" and data.folds is not None:
            folds = make_folds(
                task, train.targets, data.folds, groups=train.groups, times=train.times, seed=config.seed
            )
            kept, held_out = rows_of_fold(folds, data.fold, in_time=train.times is not None)
        elif size is None or size is False or isinstance(size, str):
            continue
        else:
            kept, held_out = split(
                task,
                train.targets,
                size,
                config.seed,
                part=part,
                n_whole=n_whole,
                groups=train.groups,
                times=train.times,
            )
        found[part], train = train.take(held_out), train.take(kept)
    return found | {"train": train}


def _note_out_of_scope(label: str, found: Mapping[str, PartRows], labels: Labels, reading: _Reading) -> None:
    """Say how many rows are out of scope, or that the label is none."""
    outside = {name: int((~part.truth.any(axis=1)).sum()) for name, part in found.items()}
    if not any(outside.values()):
        try:
            refuse_unknown(label, [labels])
        except DataError as error:
            reading.faults.append(fault_of("train", labels.table.path, error))
        return
    held_out = ", ".join(f"{n:,} {name}" for name, n in outside.items() if name != "train")
    scored = f", and {held_out} rows are rows that the model should not answer" if held_out else ""
    reading.notes.append(
        f"{outside['train']:,} training rows of the label {label!r} are out of scope and not learned{scored}"
    )

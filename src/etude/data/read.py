"""Reading: from a config to the checked rows of each part, before anything is prepared.

Parts that are files are read as they are; parts that are a fraction, a count or a fold come out of the
training file: first the test part, then the validation part of what is left. Fractions are meant of the
whole file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from etude.config.run import REST, Config, DataConfig
from etude.core.task import Task
from etude.data.folds import make_folds, rows_of_fold
from etude.data.groups_and_times import read_groups, read_times
from etude.data.labels import Labels, encode_labels, read_labels
from etude.data.loader import Content, Loader
from etude.data.out_of_scope import (
    build_scoped_task,
    check_scoped_part,
    out_of_scope_rows,
    refuse_unknown,
    set_aside,
)
from etude.data.splits import Rows, split, subsample
from etude.data.strata import number_groups
from etude.data.table import Table
from etude.errors import DataError

Part = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class PartRows:
    """The checked rows of one part before they are prepared.

    Attributes:
        table: the file that they come from, with all of its rows.
        labels: the labels of all rows of the file.
        ids: (N,) which of them are the part's, counted from 0.
        content: the inputs of the N rows.
        weights: (N,) example weights.
        groups: (N,) the groups, without ``data.group`` none.
    """

    table: Table
    labels: Labels
    ids: Rows
    content: Content
    weights: NDArray[np.float32]
    groups: list[str] | None

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Rows) -> PartRows:
        """Some of the rows."""
        return PartRows(
            self.table,
            self.labels,
            self.ids[rows],
            self.content.take(rows),
            self.weights[rows],
            None if self.groups is None else [self.groups[row] for row in rows.tolist()],
        )

    def targets(self, task: Task) -> NDArray[np.float32]:
        """The targets (N, C); zeros for a row out of scope."""
        return encode_labels(self.labels, task, self.ids)


@dataclass(frozen=True)
class Unlabelled:
    """Rows without labels, checked.

    Attributes:
        table: the file that they come from.
        ids: (N,) which of its rows they are.
        content: the inputs of the N rows.
    """

    table: Table
    ids: Rows
    content: Content

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Parts:
    """What the files of a config hold.

    Attributes:
        task: the task, with the labels of the training file in their order.
        rows: the parts that there are; of training, those that remain after ``data.limit``.
        lonely: labels that a single row of the training file has.
        notes: sentences on how the parts came about.
        unlabelled: the rows that ``data.unlabelled`` names.
    """

    task: Task
    rows: Mapping[Part, PartRows]
    lonely: list[str]
    notes: list[str]
    unlabelled: Unlabelled | None = None


def read_parts(config: Config, loader: Loader, tables: Mapping[str, Table] | None = None) -> Parts:
    """Read and check all rows that a config names, and split them into parts.

    The rows of the test part come out readable: who calls this before the final scoring must not use them
    for anything but checks, and :func:`~etude.data.load.load_data` locks them at once.

    Args:
        config: the run's.
        loader: of its kind of data.
        tables: tables in memory in the place of files, by part.

    Raises:
        DataError: a file, a row, an input, a label, a group, a time or a weight cannot be used, or the
            parts do not fit each other.
    """
    data = config.data
    table = (tables or {}).get("train") or loader.open(data.train, "train")
    written = read_labels(table, data.labels, data.label_separator)
    labels = set_aside(written, data.out_of_scope)
    whole = _check_rows(data, table, labels, loader)
    task = build_scoped_task(config.task, labels, data.out_of_scope)
    targets = whole.targets(task)
    drawn, notes = _draw(config, task, whole, targets)
    learned = _in_scope(data, drawn["train"], targets)
    chosen = subsample(learned, data.limit, config.seed)
    rows: dict[Part, PartRows] = {"train": whole.take(chosen)}
    rest = np.setdiff1d(learned, chosen)
    choices: dict[Part, object] = {"validation": data.validation, "test": data.test}
    for part, choice in choices.items():
        if part in drawn:
            rows[part] = whole.take(drawn[part])
        elif isinstance(choice, str):
            rows[part] = _read_part(data, choice, part, written, task, loader)
    if data.out_of_scope is not None:
        refuse_unknown(data.out_of_scope, [labels, *(part.labels for part in rows.values())])
        notes += _note_out_of_scope(data.out_of_scope, labels, drawn["train"], rows.get("validation"))
    _refuse_shared_groups(data, rows)
    lonely = [task.labels[c] for c in np.flatnonzero((targets > 0).sum(axis=0) == 1)]
    unlabelled = None
    if data.unlabelled is not None:
        unlabelled = _read_unlabelled(data.unlabelled, whole, rest, loader, tables or {})
        notes.append(f"{len(unlabelled)} rows of {unlabelled.table.path} are there without their labels")
    return Parts(task, rows, lonely, notes, unlabelled)


def _draw(
    config: Config, task: Task, whole: PartRows, targets: NDArray[np.float32]
) -> tuple[dict[Part, Rows], list[str]]:
    """The rows of the training file that each part takes, and how they were chosen."""
    data = config.data
    groups = None if whole.groups is None else number_groups(whole.groups)
    times = None if data.time is None else read_times(whole.table, data.time)
    drawn: dict[Part, Rows] = {"train": np.arange(len(targets))}
    notes: list[str] = []

    def draw(part: Part, size: float) -> None:
        rest = drawn["train"]
        kept, held_out = split(
            task,
            targets[rest],
            size,
            config.seed,
            part=part,
            n_whole=len(targets),
            groups=None if groups is None else groups[rest],
            times=None if times is None else times[rest],
        )
        drawn["train"], drawn[part] = rest[kept], rest[held_out]
        notes.extend(_note_kind(data, part, len(held_out)))

    if data.test is not None and not isinstance(data.test, str):
        draw("test", data.test)
    if data.folds is not None:
        rest = drawn["train"]
        folds = make_folds(
            task,
            targets[rest],
            data.folds,
            groups=None if groups is None else groups[rest],
            times=None if times is None else times[rest],
            seed=config.seed,
        )
        kept, held_out = rows_of_fold(folds, data.fold, in_time=times is not None)
        drawn["train"], drawn["validation"] = rest[kept], rest[held_out]
        notes.append(f"the validation part is fold {data.fold} of 0 to {data.folds - 1}")
    elif data.validation is not False and not isinstance(data.validation, str):
        draw("validation", data.validation)
    return drawn, notes


def _note_kind(data: DataConfig, part: Part, n_rows: int) -> list[str]:
    """Say what a part holds where groups or times decided it, so that its size is no surprise."""
    if data.time is not None:
        return [f"the {part} part holds the {n_rows} latest rows by {data.time!r}"]
    if data.group is not None:
        return [f"the {part} part holds {n_rows} rows, whole groups by {data.group!r}"]
    return []


def _in_scope(data: DataConfig, rows: Rows, targets: NDArray[np.float32]) -> Rows:
    """The training rows that are learned."""
    if data.out_of_scope is None:
        return rows
    learned = rows[targets[rows].any(axis=1)]
    if len(learned) == 0:
        raise DataError(
            f"all {len(rows)} training rows have the label data.out_of_scope = {data.out_of_scope!r}, and "
            "none is left to learn; hold out fewer rows, or split in another way"
        )
    return learned


def _note_out_of_scope(label: str, labels: Labels, trained: Rows, validation: PartRows | None) -> list[str]:
    n_left_out = out_of_scope_rows(labels, trained)
    n_scored = 0 if validation is None else out_of_scope_rows(validation.labels, validation.ids)
    return [
        f"{n_left_out} training rows of the label {label!r} are out of scope and not learned, and {n_scored} "
        "validation rows of it are rows that the model should not answer"
    ]


def _refuse_shared_groups(data: DataConfig, parts: Mapping[Part, PartRows]) -> None:
    """Refuse parts that hold rows of one group, as only files can."""
    for (first, one), (second, other) in combinations(parts.items(), 2):
        shared = sorted(set(one.groups or ()) & set(other.groups or ()))
        if shared:
            raise DataError(
                f"{len(shared)} group(s) of data.group = {data.group!r}, as {shared[0]!r}, have rows both in "
                f"the {first} part ({one.table.path}) and in the {second} part ({other.table.path}); remove "
                "them from one, or leave data.group out"
            )


def _read_part(data: DataConfig, path: str, part: Part, like: Labels, task: Task, loader: Loader) -> PartRows:
    table = loader.open(path, part)
    written = read_labels(table, data.labels, data.label_separator, like=like)
    labels = set_aside(written, data.out_of_scope)
    check_scoped_part(labels, task, like.table.path, data.out_of_scope)
    # Only the training file cannot do without the weights and the groups asked for.
    absent = {key: None for key in ("weight", "group") if getattr(data, key) not in table.columns}
    return _check_rows(data.model_copy(update=absent), table, labels, loader)


def _read_unlabelled(
    named: str, whole: PartRows, rest: Rows, loader: Loader, tables: Mapping[str, Table]
) -> Unlabelled:
    """The rows of a file, whose labels are not looked at, or those that the limit leaves out."""
    if named == REST:
        if len(rest) == 0:
            raise DataError(
                f"data.unlabelled = {REST!r} is the training rows that data.limit leaves out, and it leaves "
                f"out none of {whole.table.path}; lower data.limit, or name a file"
            )
        return Unlabelled(whole.table, rest, whole.content.take(rest))
    table = tables.get("unlabelled") or loader.open(named, "unlabelled")
    return Unlabelled(table, np.arange(table.rows), loader.read(table))


def _check_rows(data: DataConfig, table: Table, labels: Labels, loader: Loader) -> PartRows:
    """Check every input, weight and group of a file."""
    return PartRows(
        table,
        labels,
        np.arange(table.rows),
        loader.read(table),
        _read_weights(table, data.weight),
        None if data.group is None else read_groups(table, data.group),
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

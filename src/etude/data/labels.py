"""Labels: from the cells of one or several columns to names, a task, and their order.

A label may be written as a name, an integer or true/false; as a list of names or of integers; as a
list of zeros and ones, one for each label; as several columns of zeros and ones; or as one cell of
names with a separator between them; and, softly, as the shares of several labels (see
:mod:`etude.data.soft_labels`). All come out as names: integers as ``"3"``, booleans as
``"false"`` and ``"true"``, and the positions of a 0/1 list as ``"0"`` to ``"C-1"``.

The order of the labels is the numeric one where all of them are integers, else the alphabetical one;
0/1 columns and lists keep the order of the file. In a binary task the second label is the positive
one, so ``no < yes``, ``negative < positive``, ``ham < spam`` and ``0 < 1`` come out right.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from etude.core.task import Kind, Task, make_task
from etude.data.soft_labels import (
    Shares,
    are_fractions,
    as_mapping,
    read_fractions,
    read_mappings,
    refuse_no_distribution,
)
from etude.data.table import Table
from etude.errors import DataError, closest

Form = Literal["single", "names", "indicators", "columns", "separated", "shares", "fractions"]
"""How labels are written: one a row, lists of names, 0/1 lists, 0/1 columns, a separated cell, shares by
name, lists of shares.
"""

_INTEGER = re.compile(r"-?\d+")
_FORM_IN_WORDS: dict[Form, str] = {
    "single": "one label in each row",
    "names": "lists of labels",
    "indicators": "lists of zeros and ones",
    "columns": "columns of zeros and ones",
    "separated": "cells of separated labels",
    "shares": "shares by label",
    "fractions": "lists of shares",
}


@dataclass(frozen=True)
class Labels:
    """The labels of N rows of one part.

    Attributes:
        names: (N,) the labels of each row, in the order of the cell; one of them in a single form, and
            all that the row names in a soft one.
        form: how they were written.
        order: the labels in the file's own order, where the form has one (0/1 lists and columns).
        table: where the rows came from.
        column: the column as errors name it.
        shares: (N,) how likely each row's labels are; none where labels are certain.
    """

    names: list[list[str]]
    form: Form
    order: tuple[str, ...] | None
    table: Table
    column: str
    shares: list[Shares] | None = None

    @property
    def many(self) -> bool:
        """Whether a row may have any number of labels."""
        return self.form != "single"


def read_labels(
    table: Table, columns: str | Sequence[str], separator: str | None = None, *, like: Labels | None = None
) -> Labels:
    """Read the labels of every row.

    Args:
        table: the rows.
        columns: the labels column, or several columns of zeros and ones.
        separator: what stands between the labels of one cell.
        like: the training part's labels; this part must be written in the same form.

    Raises:
        DataError: a column is missing, a label is null, types are mixed, a 0/1 list has the wrong
            length, or the form is not the training part's; names the file, the row and the column.
    """
    if not isinstance(columns, str):
        return _read_columns(table, list(columns))
    cells = [as_mapping(cell) for cell in table.column(columns)]
    _refuse_nulls(table, columns, cells, empty_is_null=separator is None)
    if separator is not None and all(isinstance(cell, str) for cell in cells):
        names = [_distinct(cell.split(separator)) for cell in cells]
        return _same_form(Labels(names, "separated", None, table, columns), like)
    cells = _parse_json(table, columns, cells)
    _refuse_mixed_types(table, columns, cells)
    if isinstance(cells[0], dict):
        return _same_form(_soft(table, columns, read_mappings(table, columns, cells)), like)
    if not isinstance(cells[0], list):
        names = [[_name(table, columns, row, cell)] for row, cell in enumerate(cells)]
        return _same_form(Labels(names, "single", None, table, columns), like)
    if are_fractions(cells) if like is None else like.form == "fractions":
        length = None if like is None or like.order is None else len(like.order)
        return _soft(table, columns, *read_fractions(table, columns, cells, length))
    if _are_indicators(cells) if like is None else like.form == "indicators":
        length = max(Counter(map(len, cells)).items(), key=lambda item: item[1])[0]
        if like is not None and like.order is not None:
            length = len(like.order)
        return _read_indicators(table, columns, cells, length)
    names = [_distinct(_name(table, columns, row, item) for item in cell) for row, cell in enumerate(cells)]
    return _same_form(Labels(names, "names", None, table, columns), like)


def encode_labels(labels: Labels, task: Task, rows: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
    """Return the targets (B, C) of some rows, or of all; shares of a single-label task sum to 1 exactly.

    Raises:
        DataError: a label is none of the task's.
    """
    chosen = range(len(labels.names)) if rows is None else rows.tolist()
    if labels.shares is None:
        return task.encode(labels.names[row] for row in chosen)
    targets = np.zeros((len(chosen), task.n_classes))
    for i, row in enumerate(chosen):
        for name, share in labels.shares[row].items():
            targets[i, task.position(name)] = share
    if task.kind != "multilabel":
        targets /= targets.sum(axis=1, keepdims=True)
    return targets.astype(np.float32)


def likeliest(labels: Labels) -> list[list[str]]:
    """Return the labels of each row, of soft ones the one with the largest share.

    >>> table = Table("a.jsonl", {"label": [{"no": 0.2, "yes": 0.8}]}, [1])
    >>> likeliest(read_labels(table, "label"))
    [['yes']]
    """
    if labels.shares is None:
        return labels.names
    return [[max(shares, key=shares.__getitem__)] if shares else [] for shares in labels.shares]


def infer_kind(labels: Labels) -> Kind:
    """The task that the training labels ask for: multilabel, binary for two labels, else multiclass.

    Soft labels ask for one label in each row; that each stands for itself must be said.
    """
    if labels.many and labels.shares is None:
        return "multilabel"
    return "binary" if len({name for row in labels.names for name in row}) == 2 else "multiclass"


def build_task(kind: Kind | Literal["auto"], labels: Labels) -> Task:
    """Return the task over the labels of the training part.

    Raises:
        DataError: the training part has one class only, no label at all, or rows that do not fit
            the kind of task.
    """
    table, column = labels.table, labels.column
    chosen = infer_kind(labels) if kind == "auto" else kind
    if chosen == "multilabel" and not labels.many:
        raise DataError(
            f'task = "multilabel" needs lists of labels and {table.path}, column {column!r} holds one '
            'label in each row; set data.label_separator, or use task = "multiclass"'
        )
    if chosen != "multilabel":
        _refuse_not_one(chosen, labels)
    order = labels.order or sort_labels({name for row in labels.names for name in row})
    if not order:
        raise DataError(f"{table.path}, column {column!r} holds no label in any row; check the column")
    if chosen != "multilabel" and len(order) == 1:
        raise DataError(
            f"{table.path}, column {column!r} holds only one class, {order[0]!r}, in all {table.rows} rows; "
            "a classifier needs at least two"
        )
    return make_task(chosen, order)


def check_part(labels: Labels, task: Task, train_path: str) -> None:
    """Refuse rows of another part that do not fit the task, and labels that training never saw.

    Raises:
        DataError: names the label, how many rows have it, the first of them and the closest label.
    """
    if task.kind != "multilabel":
        _refuse_not_one(task.kind, labels)
    known = set(task.labels)
    unseen = Counter(name for row in labels.names for name in row if name not in known)
    if not unseen:
        return
    name, count = unseen.most_common(1)[0]
    first = next(row for row, names in enumerate(labels.names) if name in names)
    others = f" (and {len(unseen) - 1} other label(s) as well)" if len(unseen) > 1 else ""
    raise DataError(
        f"{labels.table.line(first, labels.column)} holds the label {name!r}, which {count} row(s) of this "
        f"part have and {train_path} never has{others}{closest(name, task.labels)}"
        "; correct the label, or add training rows for it"
    )


def sort_labels(names: Iterable[str]) -> tuple[str, ...]:
    """Sort labels by number where all are integers, else by the alphabet.

    >>> sort_labels({"10", "9", "-1"}), sort_labels({"spam", "ham"})
    (('-1', '9', '10'), ('ham', 'spam'))
    """
    listed = list(names)
    if all(_INTEGER.fullmatch(name) for name in listed):
        return tuple(sorted(listed, key=lambda name: (int(name), name)))
    return tuple(sorted(listed))


def _read_columns(table: Table, columns: list[str]) -> Labels:
    """Read several columns of zeros and ones, one for each label."""
    if not columns:
        raise DataError("data.labels is an empty list; name the labels column, or the 0/1 columns")
    names: list[list[str]] = [[] for _ in range(table.rows)]
    for column in columns:
        cells = table.column(column)
        _refuse_nulls(table, column, cells, empty_is_null=True)
        for row, cell in enumerate(cells):
            if _zero_or_one(table, column, row, cell):
                names[row].append(column)
    return Labels(names, "columns", tuple(columns), table, columns[0])


def _read_indicators(table: Table, column: str, cells: list[list[Any]], length: int) -> Labels:
    """Read 0/1 lists, all of one length."""
    names = []
    for row, cell in enumerate(cells):
        if len(cell) != length:
            raise DataError(
                f"{table.line(row, column)} holds a list of {len(cell)} zeros and ones, and {length} are "
                "expected, one for each label"
            )
        names.append([str(c) for c, item in enumerate(cell) if _zero_or_one(table, column, row, item)])
    return Labels(names, "indicators", tuple(str(c) for c in range(length)), table, column)


def _are_indicators(cells: list[list[Any]]) -> bool:
    """Whether lists are zeros and ones by position, and not ids.

    A list of ids never repeats one, and a 0/1 list of three labels or more always does; only of two
    labels are the forms alike, and there all 0/1 lists have the length two.
    """
    values = [item for cell in cells for item in cell]
    if not values or not all(isinstance(item, (int, float)) for item in values):
        return False
    repeats = any(len(set(cell)) < len(cell) for cell in cells)
    return repeats or (set(values) == {0, 1} and all(len(cell) == 2 for cell in cells))


def _zero_or_one(table: Table, column: str, row: int, cell: Any) -> bool:
    text = str(cell).strip().lower()
    if text in ("0", "false", "0.0"):
        return False
    if text in ("1", "true", "1.0"):
        return True
    raise DataError(f"{table.line(row, column)} holds {cell!r}, and 0 or 1 is expected")


def _refuse_nulls(table: Table, column: str, cells: list[Any], *, empty_is_null: bool) -> None:
    for row, cell in enumerate(cells):
        blank = isinstance(cell, str) and not cell.strip() and empty_is_null
        if cell is None or blank or cell != cell:  # only NaN differs from itself
            raise DataError(f"{table.line(row, column)} has no label; give it one, or remove the row")


def _parse_json(table: Table, column: str, cells: list[Any]) -> list[Any]:
    """Read cells of text that are all written as JSON lists or all as mappings, as a csv file holds them."""
    openings = {cell.lstrip()[:1] if isinstance(cell, str) else "" for cell in cells}
    what = _JSON.get(openings.pop()) if len(openings) == 1 else None
    if what is None:
        return cells
    parsed = []
    for row, cell in enumerate(cells):
        try:
            parsed.append(json.loads(cell))
        except json.JSONDecodeError:
            raise DataError(f"{table.line(row, column)} holds {cell!r}, which is no JSON {what}") from None
    return parsed


_JSON = {
    "[": 'list; write it as ["a", "b"], or as a|b with label_separator = "|"',
    "{": 'mapping; write it as {"a": 0.8, "b": 0.2}',
}
"""What JSON begins with, and how to write it."""


def _type_in_words(cell: Any) -> str:
    if isinstance(cell, bool):
        return "a boolean"
    if isinstance(cell, int | float):
        return "a number"
    if isinstance(cell, str):
        return "a string"
    if isinstance(cell, dict):
        return "a mapping"
    return "a list" if isinstance(cell, list) else f"a {type(cell).__name__}"


def _refuse_mixed_types(table: Table, column: str, cells: list[Any]) -> None:
    """Refuse a column, or the items of its lists, of more than one type."""
    first_cell, first_item = _type_in_words(cells[0]), ""
    for row, cell in enumerate(cells):
        if _type_in_words(cell) != first_cell:
            raise DataError(
                f"{table.line(row, column)} holds {_type_in_words(cell)} ({cell!r}) and the rows before it "
                f"hold {first_cell}; write all labels in one way"
            )
        for item in cell if isinstance(cell, list) else ():
            first_item = first_item or _type_in_words(item)
            if _type_in_words(item) != first_item:
                raise DataError(
                    f"{table.line(row, column)} holds a list with {_type_in_words(item)} ({item!r}) and the "
                    f"items before it are {first_item}; write all labels in one way"
                )


def _name(table: Table, column: str, row: int, cell: Any) -> str:
    """The name of one label."""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, int):
        return str(cell)
    if isinstance(cell, float) and cell.is_integer():  # a table with gaps turns integers into floats
        return str(int(cell))
    if isinstance(cell, str) and cell.strip():
        return cell.strip()
    raise DataError(
        f"{table.line(row, column)} holds {cell!r}, which is no label; labels are names, integers or "
        "true and false"
    )


def _distinct(names: Iterable[str]) -> list[str]:
    return [name for name in dict.fromkeys(name.strip() for name in names) if name]


def _same_form(labels: Labels, like: Labels | None) -> Labels:
    """Refuse a part that is written in another way than the training part."""
    if like is None or labels.form == like.form:
        return labels
    if like.form == "shares" and labels.form == "single":  # a certain label is a share of 1
        return replace(labels, form="shares", shares=[{row[0]: 1.0} for row in labels.names])
    if not any(labels.names) and like.form == "names":  # empty lists have no form of their own
        return replace(labels, form=like.form)
    raise DataError(
        f"{labels.table.path}, column {labels.column!r} holds {_FORM_IN_WORDS[labels.form]} and "
        f"{like.table.path} holds {_FORM_IN_WORDS[like.form]}; write all parts in one way"
    )


def _soft(table: Table, column: str, shares: list[Shares], order: tuple[str, ...] | None = None) -> Labels:
    """Labels of shares, by name unless they have an order of their own."""
    form: Form = "shares" if order is None else "fractions"
    return Labels([list(row) for row in shares], form, order, table, column, shares)


def _refuse_not_one(kind: Kind, labels: Labels) -> None:
    if labels.shares is not None:
        refuse_no_distribution(labels.table, labels.column, labels.shares)
        return
    for row, names in enumerate(labels.names):
        if len(names) != 1:
            raise DataError(
                f'task = "{kind}" needs one label in each row and {labels.table.line(row, labels.column)} '
                f'has {len(names)}; use task = "multilabel"'
            )

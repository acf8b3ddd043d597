"""What the columns of a table are, found by looking, and the columns read as that.

A column is numeric, boolean, a date, categorical, free text, or left out: because it is empty, because it
numbers or names its rows, or because the config says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from etude.config.columns import ColumnKind, ColumnsConfig
from etude.data.cells import (
    DATE_FORMS,
    DATE_PARTS,
    ISO,
    NO_CATEGORY,
    NO_NUMBER,
    Cells,
    Numbers,
    category_of,
    date_forms,
    date_of,
    date_parts,
    is_code,
    is_missing,
    number_of,
    take_apart,
    truth_of,
)
from etude.data.table import Table
from etude.errors import DataError, closest

FEWEST = 20
"""A column of fewer rows is never taken for one that names its rows."""


@dataclass(frozen=True)
class Column:
    """One column that is a feature.

    Attributes:
        name: its name.
        kind: what it is.
        form: the form of its dates.
    """

    name: str
    kind: ColumnKind
    form: str = ""

    def to_json(self) -> dict[str, str]:
        """Its attributes by name."""
        return asdict(self)


def find_columns(table: Table, stated: ColumnsConfig, taken: Iterable[str]) -> tuple[list[Column], list[str]]:
    """Find what the columns of a table are.

    Args:
        table: the training file.
        stated: what the config says of them.
        taken: columns that are no features: labels, weight, group, time.

    Returns:
        The columns that are features, and sentences on those that are left out or doubtful.

    Raises:
        DataError: the config names a column that is not there, or none is left.
    """
    kinds, used = stated.stated, set(taken)
    for name, kind in kinds.items():
        if name not in table.columns:
            raise DataError(
                f"columns.{kind} names {name!r} and {table.path} has no such column"
                f"{closest(name, table.columns)}; its columns are {', '.join(table.columns)}"
            )
    found: list[Column] = []
    notes: list[str] = []
    for name in table.columns:
        if name in used or kinds.get(name) == "ignore":
            continue
        cells = take_apart(table, name)
        if name in kinds:
            column, note = _as_stated(table, name, kinds[name], cells)
        else:
            column, note = look(table, name, cells)
        found += [column] if column.kind != "ignore" else []
        notes += [note] if note else []
    if not found:
        raise DataError(
            f"{table.path} has no column to learn from beside {', '.join(sorted(used)) or 'none'}; "
            + ("; ".join(notes) or "give it one")
        )
    return found, notes


def look(table: Table, name: str, cells: Cells) -> tuple[Column, str]:
    """Say what a column is by its cells, with a sentence where the user should know.

    >>> table = Table("a.csv", {"age": ["31", "", "44"]}, range(3))
    >>> look(table, "age", take_apart(table, "age"))[0].kind
    'numeric'
    """
    filled = [cell for cell in cells.distinct if not is_missing(cell, NO_NUMBER)]
    if not filled:
        return _look_at_names(table, name, cells, []) if _has_names(cells) else _empty(table, name)
    if all(isinstance(cell, (bool, np.bool_)) for cell in filled):
        return Column(name, "boolean"), ""
    numeric = [number_of(cell) is not None for cell in filled]
    if all(numeric) and not any(is_code(cell) for cell in filled):
        return _look_at_numbers(name, cells, filled)
    if all(truth_of(cell) is not None for cell in filled):
        return Column(name, "boolean"), ""
    forms = date_forms(filled)
    if forms:
        return Column(name, "date", forms[0]), _doubt(name, forms)
    return _look_at_names(table, name, cells, numeric)


def _doubt(name: str, forms: Sequence[str]) -> str:
    """A sentence where the dates of a column may be read in two ways."""
    if not {"%m/%d/%Y", "%d/%m/%Y"} <= set(forms):
        return ""
    return (
        f"the dates of column {name!r} are read as MM/DD/YYYY, and DD/MM/YYYY fits them as well; write "
        "them as YYYY-MM-DD"
    )


def _look_at_numbers(name: str, cells: Cells, filled: Sequence[Any]) -> tuple[Column, str]:
    whole = all(isinstance(cell, (str, int, np.integer)) for cell in filled)
    if whole and {number_of(cell) for cell in filled} <= {0.0, 1.0}:
        return Column(name, "boolean"), ""
    numbers = np.asarray([number_of(cell) for cell in filled])
    counts_rows = len(filled) == len(cells.index) >= FEWEST and bool((np.diff(numbers) == 1).all())
    if whole and counts_rows:
        return Column(name, "ignore"), (
            f"column {name!r} counts the rows and is left out; name it in columns.numeric to keep it"
        )
    return Column(name, "numeric"), ""


def _look_at_names(table: Table, name: str, cells: Cells, numeric: Sequence[bool]) -> tuple[Column, str]:
    missing = [i for i, cell in enumerate(cells.distinct) if is_missing(cell)]
    names = [str(cell) for i, cell in enumerate(cells.distinct) if i not in set(missing)]
    n_rows = len(cells.index) - int(np.isin(cells.index, missing).sum())
    words = sum(len(cell.split()) for cell in names) / len(names)
    if words >= 3 and len(names) > n_rows / 2:
        return Column(name, "text"), ""
    if 0.9 * len(numeric) < sum(numeric) < len(numeric):
        filled = [i for i, cell in enumerate(cells.distinct) if not is_missing(cell, NO_NUMBER)]
        odd = next(i for i, holds in zip(filled, numeric, strict=True) if not holds)
        return Column(name, "categorical"), (
            f"column {name!r} holds categories, since {table.line(cells.first_row(odd))} holds "
            f"{cells.distinct[odd]!r} where most others are numbers; mend it, or name the column in "
            "columns.categorical"
        )
    if len(names) == n_rows >= FEWEST:
        return Column(name, "ignore"), (
            f"column {name!r} has another value in every row and is left out; name it in columns.categorical "
            "or columns.text to keep it"
        )
    return Column(name, "categorical"), ""


def _has_names(cells: Cells) -> bool:
    """Whether a cell is there that may be the name of a category, as "none"."""
    return not all(is_missing(cell) for cell in cells.distinct)


def _empty(table: Table, name: str) -> tuple[Column, str]:
    return Column(name, "ignore"), f"column {name!r} of {table.path} has no value in any row; it is left out"


def _as_stated(table: Table, name: str, kind: ColumnKind, cells: Cells) -> tuple[Column, str]:
    filled = [cell for cell in cells.distinct if not is_missing(cell, NO_NUMBER)]
    if not filled and not (kind in ("categorical", "text") and _has_names(cells)):
        return _empty(table, name)
    if kind != "date":
        return Column(name, kind), ""
    forms = date_forms(filled)
    if not forms:
        # The form that most cells have names the one that has not.
        forms = [max((ISO, *DATE_FORMS), key=lambda form: sum(date_of(c, form) is not None for c in filled))]
    return Column(name, kind, forms[0]), ""


def read_number(table: Table, column: Column, cells: Cells, *, fill: bool) -> Numbers:
    """The numbers (N,) of a numeric column, NaN where one is missing and may be.

    Raises:
        DataError: a cell holds no finite number; names the file, the row and the column.
    """
    read = np.empty(len(cells.distinct))
    for i, cell in enumerate(cells.distinct):
        if is_missing(cell, NO_NUMBER):
            read[i] = _no_cell(table, column, cells, i, fill=fill)
            continue
        number = number_of(cell)
        if number is None or not np.isfinite(number):
            raise DataError(
                f"{table.line(cells.first_row(i), column.name)} holds {cell!r}, and a finite number is "
                "expected"
            )
        read[i] = number
    return read[cells.index]


def read_date(table: Table, column: Column, cells: Cells, *, fill: bool) -> Numbers:
    """The parts (N, 5) of the dates of a column: those of :data:`~etude.data.cells.DATE_PARTS`.

    Raises:
        DataError: a cell holds no date of the column's form; names the file, the row and the column.
    """
    read = np.empty((len(cells.distinct), len(DATE_PARTS)))
    for i, cell in enumerate(cells.distinct):
        if is_missing(cell, NO_NUMBER):
            read[i] = _no_cell(table, column, cells, i, fill=fill)
            continue
        when = date_of(cell, column.form)
        if when is None:
            raise DataError(
                f"{table.line(cells.first_row(i), column.name)} holds {cell!r}, and a date as "
                f"{_shown_form(column.form)} is expected"
            )
        read[i] = date_parts(when)
    return read[cells.index]


def read_categories(
    table: Table, column: Column, cells: Cells, known: dict[str | None, int], *, fill: bool
) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The numbers (N,) of a column's categories in ``known``, which new ones are added to.

    Args:
        table: N rows.
        column: categorical or boolean.
        cells: the column's.
        known: numbers of the categories that were met; a missing cell is ``None``.
        fill: whether a cell may be missing.

    Raises:
        DataError: a cell of a boolean column is neither yes nor no, or one is missing and must not be.
    """
    read = np.empty(len(cells.distinct), dtype=np.int64)
    for i, cell in enumerate(cells.distinct):
        name: str | None = None
        if is_missing(cell, NO_NUMBER if column.kind == "boolean" else NO_CATEGORY):
            _no_cell(table, column, cells, i, fill=fill)
        elif column.kind == "boolean":
            truth = truth_of(cell)
            if truth is not None:
                name = str(truth).lower()
            elif number_of(cell) is not None:  # a count that was 0 or 1 so far
                name = category_of(cell)
            else:
                raise DataError(
                    f"{table.line(cells.first_row(i), column.name)} holds {cell!r}, and yes or no, true or "
                    "false, 1 or 0 is expected"
                )
        else:
            name = category_of(cell)
        read[i] = known.setdefault(name, len(known))
    return read[cells.index]


def read_text(table: Table, column: Column) -> list[str]:
    """The texts (N,) of a column; a missing one is empty."""
    return ["" if is_missing(cell) else str(cell).strip() for cell in table.column(column.name)]


def _no_cell(table: Table, column: Column, cells: Cells, cell: int, *, fill: bool) -> float:
    if not fill:
        raise DataError(
            f"{table.line(cells.first_row(cell), column.name)} holds no value; give it one, or train with "
            'columns.missing = "median"'
        )
    return float("nan")


def _shown_form(form: str) -> str:
    """A form of dates as people write it.

    >>> _shown_form("%d.%m.%Y")
    'DD.MM.YYYY'
    """
    if form == ISO:
        return "YYYY-MM-DD"
    words = {"%Y": "YYYY", "%m": "MM", "%d": "DD", "%b": "Jan", "%B": "January"}
    for code, word in words.items():
        form = form.replace(code, word)
    return form

"""The columns that decide which rows may be apart: groups, which stay together, and times, which order."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from etude.data.table import Table
from etude.errors import DataError

Kind = Literal["number", "date"]


def read_groups(table: Table, column: str) -> list[str]:
    """Return the group of each row as text, so that ``7`` in one file is ``"7"`` in another.

    Raises:
        DataError: there is no such column, or a cell is null, blank or a list; names the row.

    >>> read_groups(Table("a.csv", {"user": ["anna ", 7]}, range(1, 3)), "user")
    ['anna', '7']
    """
    groups = []
    for row, cell in enumerate(table.column(column)):
        if isinstance(cell, list | dict):
            raise DataError(
                f"{table.line(row, column)} holds {cell!r}, and one name or number is expected for data.group"
            )
        name = "" if cell is None or cell != cell else str(cell).strip()  # only NaN differs from itself
        if not name:
            raise DataError(
                f"{table.line(row, column)} has no group; give the row one of its own, or remove it"
            )
        groups.append(name)
    return groups


def read_times(table: Table, column: str) -> NDArray[np.float64]:
    """Return the time of each row (N,): numbers as they are, dates in seconds since 1970.

    Numbers may be years, timestamps or ``20240131``; dates are ISO 8601, with or without a time of day, as
    text or as a parquet file's own type. A date without a time zone counts as UTC.

    Raises:
        DataError: there is no such column, a cell is neither a date nor a number, or dates and numbers are
            mixed; names the row.

    >>> table = Table("a.csv", {"day": ["1970-01-02", "1970-01-01T00:00:10+00:00"]}, range(1, 3))
    >>> read_times(table, "day").tolist()
    [86400.0, 10.0]
    """
    cells = table.column(column)
    times = np.empty(len(cells))
    first: Kind | None = None
    for row, cell in enumerate(cells):
        found = _number(cell) or _date(cell)
        if found is None:
            shown = "no date" if cell is None or (isinstance(cell, str) and not cell.strip()) else repr(cell)
            raise DataError(
                f"{table.line(row, column)} holds {shown}, and a number or an ISO date is expected, as "
                "2024-01-31 or 2024-01-31T12:00:00; correct it, or remove the row"
            )
        kind, times[row] = found
        first = first or kind
        if kind != first:
            raise DataError(
                f"{table.line(row, column)} holds the {kind} {cell!r} and the rows before it hold {first}s; "
                "write all of them in one way"
            )
    return times


def _number(cell: Any) -> tuple[Kind, float] | None:
    if isinstance(cell, bool) or not isinstance(cell, int | float | str):
        return None
    try:
        number = float(cell)
    except (ValueError, OverflowError):
        return None
    return ("number", number) if math.isfinite(number) else None


def _date(cell: Any) -> tuple[Kind, float] | None:
    if isinstance(cell, str):
        try:
            cell = datetime.fromisoformat(cell.strip())
        except ValueError:
            return None
    if isinstance(cell, date) and not isinstance(cell, datetime):
        cell = datetime(cell.year, cell.month, cell.day, tzinfo=UTC)
    # A parquet file's empty cell is a "not a time", which alone differs from itself.
    if not isinstance(cell, datetime) or cell != cell:
        return None
    return "date", (cell if cell.tzinfo else cell.replace(tzinfo=UTC)).timestamp()

"""Cells of a table: a column taken apart into its distinct cells, and these read as what they may be.

Everything that takes a Python call for each cell is done once for each distinct cell; the N rows of a
column are one index array. A csv cell is a string, and so is read as a number, a date or a truth where all
of its column's are; a cell of json, parquet or a DataFrame has its own type.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etude.data.table import Table
from etude.errors import DataError

Codes = NDArray[np.int64]
Numbers = NDArray[np.float64]

NO_CATEGORY = frozenset({"", "?", "nan", "<na>"})
NO_NUMBER = NO_CATEGORY | {"na", "n/a", "null", "none", "-"}
"""Strings that stand for a missing cell, in lower case; a category may well be called "none"."""

TRUTHS = {
    "true": True, "false": False, "yes": True, "no": False, "y": True, "n": False, "t": True, "f": False,
    "on": True, "off": False, "1": True, "0": False, "1.0": True, "0.0": False,
}  # fmt: skip

DATE_FORMS = ("%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%d-%m-%Y", "%d %b %Y",
              "%d %B %Y", "%b %d, %Y", "%B %d, %Y")  # fmt: skip
"""Forms of dates beside ISO's, the first that fits all cells being the column's."""

ISO = "iso"
DATE_PARTS = ("year", "month", "weekday", "day number", "hour")

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?inf(inity)?", re.IGNORECASE)
_CODE = re.compile(r"[+-]?0\d")
_TIME = re.compile(r"[T ]\d{1,2}:\d{2}(:\d{2})?$")
_DAY_ONE = date(1970, 1, 1).toordinal()


@dataclass(frozen=True)
class Cells:
    """One column of N rows.

    Attributes:
        distinct: its different cells in the order of their first rows.
        index: (N,) which of them each row holds.
    """

    distinct: list[Any]
    index: Codes

    def first_row(self, cell: int) -> int:
        """The first row with that distinct cell."""
        return int(np.argmax(self.index == cell))


def take_apart(table: Table, column: str) -> Cells:
    """Return the distinct cells of a column, and which of them each row holds.

    Raises:
        DataError: there is no such column, or a cell is a list or a mapping.

    >>> cells = take_apart(Table("a.csv", {"sex": ["f", "m", "f"]}, range(3)), "sex")
    >>> cells.distinct, cells.index.tolist()
    (['f', 'm'], [0, 1, 0])
    """
    known: dict[Any, int] = {}
    index = np.empty(table.rows, dtype=np.int64)
    for row, cell in enumerate(table.column(column)):
        if cell is None or cell != cell:  # NaN, of which each is another to a dictionary
            cell = None
        try:
            index[row] = known.setdefault(cell, len(known))
        except TypeError:
            raise DataError(
                f"{table.line(row, column)} holds a {type(cell).__name__}, and a number or a text is expected"
            ) from None
    return Cells(list(known), index)


def is_missing(cell: Any, words: frozenset[str] = NO_CATEGORY) -> bool:
    """Whether a cell stands for no value.

    >>> is_missing(" "), is_missing("NA"), is_missing("NA", NO_NUMBER)
    (True, False, True)
    """
    if isinstance(cell, str):
        return cell.strip().casefold() in words
    return cell is None or type(cell).__name__ in ("NaTType", "NAType")


def number_of(cell: Any) -> float | None:
    """The number that a cell holds, or None where it holds another thing; infinity is a number here.

    >>> number_of(" 1e3 "), number_of("1_0"), number_of(True)
    (1000.0, None, 1.0)
    """
    if isinstance(cell, str):
        return float(cell) if _NUMBER.fullmatch(cell.strip()) else None
    if isinstance(cell, (date, datetime)):
        return None
    try:
        return float(cell)
    except OverflowError:
        return math.inf
    except (TypeError, ValueError):
        return None


def truth_of(cell: Any) -> bool | None:
    """Whether a cell says yes or no, or None where it says another thing.

    >>> truth_of("No"), truth_of(1), truth_of("maybe")
    (False, True, None)
    """
    if isinstance(cell, (bool, np.bool_)):
        return bool(cell)
    if isinstance(cell, str):
        return TRUTHS.get(cell.strip().casefold())
    number = number_of(cell)
    return {0.0: False, 1.0: True}.get(number) if number is not None else None


def category_of(cell: Any) -> str:
    """The name of a category: a number is written as shortly as it can be, a truth in lower case.

    >>> category_of(3.0), category_of(" blue "), category_of(True)
    ('3', 'blue', 'true')
    """
    if isinstance(cell, str):
        return cell.strip()
    if isinstance(cell, (bool, np.bool_)):
        return str(bool(cell)).lower()
    if isinstance(cell, (float, np.floating)) and float(cell).is_integer():
        return str(int(cell))
    return str(cell)


def date_of(cell: Any, form: str) -> datetime | None:
    """The date and time that a cell holds, or None; those of a time zone are taken as they are written.

    >>> date_of("24.12.2020 18:30", "%d.%m.%Y")
    datetime.datetime(2020, 12, 24, 18, 30)
    """
    if isinstance(cell, date):
        given = cell if isinstance(cell, datetime) else datetime(cell.year, cell.month, cell.day)
        return given.replace(tzinfo=None)
    if not isinstance(cell, str):
        return None
    text = cell.strip()
    try:
        if form == ISO:
            return datetime.fromisoformat(text).replace(tzinfo=None)
        time = _TIME.search(text)
        if time is None:
            return datetime.strptime(text, form)
        clock = "%H:%M:%S" if time[1] else "%H:%M"
        return datetime.strptime(f"{text[: time.start()]} {time[0][1:]}", f"{form} {clock}")
    except ValueError:
        return None


def date_forms(cells: Iterable[Any]) -> list[str]:
    """The forms in which all cells are dates, in the order in which they are preferred.

    >>> date_forms(["03/04/2020", "31/04/2020"]), date_forms(["03/04/2020"])
    ([], ['%m/%d/%Y', '%d/%m/%Y'])
    """
    listed = list(cells)
    # Numbers of eight digits would be ISO dates, and are more often numbers.
    if not listed or any(isinstance(cell, str) and number_of(cell) is not None for cell in listed):
        return []
    if all(isinstance(cell, date) for cell in listed):
        return [ISO]
    forms = [form for form in (ISO, *DATE_FORMS) if date_of(listed[0], form) is not None]
    return [form for form in forms if all(date_of(cell, form) is not None for cell in listed)]


def date_parts(when: datetime) -> tuple[float, float, float, float, float]:
    """Year, month, weekday (Monday 0), days since 1970 with the day's share, and hour.

    >>> date_parts(datetime(2020, 12, 24, 18))
    (2020.0, 12.0, 3.0, 18620.75, 18.0)
    """
    hour = when.hour + when.minute / 60 + when.second / 3600
    days = when.toordinal() - _DAY_ONE + hour / 24
    return float(when.year), float(when.month), float(when.weekday()), days, hour


def is_code(cell: Any) -> bool:
    """Whether a string of digits has a leading zero, as codes have and numbers have not."""
    return isinstance(cell, str) and _CODE.match(cell.strip()) is not None

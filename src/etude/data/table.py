"""A table in memory: columns of plain Python values, and a name for the place of each row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from etude.errors import DataError, closest


@dataclass(frozen=True, slots=True)
class Table:
    """N rows of named columns, read from one place.

    Rows are counted from 1 and the header of a csv or tsv file is no row, so that row 1 is the first
    example; blank lines are not counted. In jsonl files and standard input it is the line of the file
    that is named, because that is what an editor shows.

    Attributes:
        path: the file, hub id or ``"standard input"`` as errors name it.
        values: the cells by column, N of them each.
        numbers: (N,) the number of each row or line in its source.
        unit: ``"row"`` or ``"line"``, what the numbers count.
    """

    path: str
    values: Mapping[str, list[Any]]
    numbers: Sequence[int]
    unit: str = "row"

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns, in the order of the source."""
        return tuple(self.values)

    @property
    def rows(self) -> int:
        """N, the number of rows."""
        return len(self.numbers)

    def column(self, name: str) -> list[Any]:
        """The cells of a column.

        Raises:
            DataError: there is no such column; names the closest one and all there are.
        """
        if name not in self.values:
            raise DataError(
                f"{self.path} has no column {name!r}{closest(name, self.columns)}"
                f"; its columns are {', '.join(self.columns)}"
            )
        return self.values[name]

    def take(self, rows: Iterable[int]) -> Table:
        """The table of some rows, in the order given; they keep their numbers."""
        chosen = list(rows)
        return Table(
            self.path,
            {name: [cells[row] for row in chosen] for name, cells in self.values.items()},
            [self.numbers[row] for row in chosen],
            self.unit,
        )

    def line(self, row: int, column: str | None = None) -> str:
        """Name the place of a row for an error.

        >>> Table("train.csv", {"text": ["a", "b"]}, range(1, 3)).line(1, "text")
        "train.csv, row 2, column 'text'"
        """
        place = f"{self.path}, {self.unit} {self.numbers[row]}"
        return place if column is None else f"{place}, column {column!r}"


def join_tables(tables: Sequence[Table]) -> Table:
    """One table of consecutive pieces; a column that a piece lacks is filled with ``None``."""
    if len(tables) == 1:
        return tables[0]
    names = dict.fromkeys(name for table in tables for name in table.columns)
    values: dict[str, list[Any]] = {name: [] for name in names}
    for table in tables:
        for name, cells in values.items():
            cells.extend(table.values.get(name) or [None] * table.rows)
    numbers = [number for table in tables for number in table.numbers]
    return Table(tables[0].path, values, numbers, tables[0].unit)

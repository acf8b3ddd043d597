"""The cells of a table as they are read, before they are scaled and coded.

Shapes: N rows, K columns of numbers, M of categories.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from etude.data.cells import DATE_PARTS, Codes, Numbers, take_apart
from etude.data.columns import Column, read_categories, read_date, read_number, read_text
from etude.data.loader import Rows
from etude.data.table import Table, join_tables

Known = dict[str, dict[str | None, int]]
"""For each column of categories the numbers of those that were met; a missing cell is ``None``."""


@dataclass(frozen=True)
class TableContent:
    """The checked cells of N rows.

    Attributes:
        numbers: (N, K) the columns of numbers and the parts of dates, NaN where one is missing.
        codes: (N, M) positions of categories in ``known``.
        texts: (N,) the texts of all columns of text joined, or none.
        number_names: (K,) the columns of numbers; a part of a date stands behind its column's name.
        known: the categories of each of M columns, by column.
        ids: (N,) the rows of the table, counted from 0.
        table: where they come from.
        shown_columns: the columns that reports show.
    """

    numbers: Numbers
    codes: Codes
    texts: list[str] | None
    number_names: tuple[str, ...]
    known: Known
    ids: Rows
    table: Table
    shown_columns: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Rows) -> TableContent:
        """Some of the rows, in the order given."""
        texts = None if self.texts is None else [self.texts[row] for row in rows.tolist()]
        return TableContent(
            self.numbers[rows],
            self.codes[rows],
            texts,
            self.number_names,
            self.known,
            self.ids[rows],
            self.table,
            self.shown_columns,
        )

    def join(self, other: TableContent) -> TableContent:
        """These rows and others behind them, that the same reader has read."""
        both = join_tables([self.table.take(self.ids.tolist()), other.table.take(other.ids.tolist())])
        return TableContent(
            np.concatenate([self.numbers, other.numbers]),
            np.concatenate([self.codes, other.codes]),
            None if self.texts is None else self.texts + (other.texts or []),
            self.number_names,
            self.known,
            np.arange(both.rows),
            both,
            self.shown_columns,
        )

    def shown(self) -> list[str]:
        """``"age 39, sex Male"`` for each row."""
        columns = [(name, self.table.values[name]) for name in self.shown_columns]
        return [", ".join(f"{name} {cells[row]}" for name, cells in columns) for row in self.ids.tolist()]

    def fingerprints(self) -> list[str]:
        """Equal for rows whose numbers, categories and texts are equal."""
        if self.numbers.size or self.codes.size:
            # All kinds of NaN, and both zeros, as one.
            numbers = np.where(np.isnan(self.numbers), np.nan, self.numbers + 0.0)
            cells = np.ascontiguousarray(np.hstack([numbers.view(np.int64), self.codes]))
            keys = cells.view(f"V{cells.shape[1] * 8}").ravel().tolist()
            found = [key.decode("latin-1") for key in keys]
        else:
            found = [""] * len(self)
        if self.texts is None:
            return found
        return [f"{key}\0{text}" for key, text in zip(found, self.texts, strict=True)]


class TableReader:
    """Reads the cells of tables as columns that are known.

    Args:
        columns: what is read.
        fill: whether cells may be missing.
    """

    def __init__(self, columns: Sequence[Column], *, fill: bool) -> None:
        self.columns = tuple(columns)
        self._fill = fill
        self._known: Known = {c.name: {} for c in columns if c.kind in ("categorical", "boolean")}

    def read(self, table: Table) -> TableContent:
        """Check and read every cell.

        Raises:
            DataError: a column is missing, or a cell cannot be used; names file, row and column.
        """
        numbers: list[Numbers] = []
        codes: list[Codes] = []
        texts: list[list[str]] = []
        names: list[str] = []
        for column in self.columns:
            if column.kind == "text":
                texts.append(read_text(table, column))
                continue
            cells = take_apart(table, column.name)
            if column.kind == "numeric":
                numbers.append(read_number(table, column, cells, fill=self._fill)[:, None])
                names.append(column.name)
            elif column.kind == "date":
                numbers.append(read_date(table, column, cells, fill=self._fill))
                names += [f"{column.name} {part}" for part in DATE_PARTS]
            else:
                known = self._known[column.name]
                codes.append(read_categories(table, column, cells, known, fill=self._fill))
        return TableContent(
            np.hstack(numbers) if numbers else np.zeros((table.rows, 0)),
            np.stack(codes, axis=1) if codes else np.zeros((table.rows, 0), dtype=np.int64),
            _join(texts) if texts else None,
            tuple(names),
            self._known,
            np.arange(table.rows),
            table,
            tuple(column.name for column in self.columns),
        )


def _join(texts: Sequence[list[str]]) -> list[str]:
    """Join the texts of several columns, row by row; empty ones are passed over."""
    return ["\n".join(filter(None, row)) for row in zip(*texts, strict=True)]

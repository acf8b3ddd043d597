"""Reading on after a fault: all that is wrong with a file, in place of the first thing that is.

Training refuses data at the first fault. Who wants to mend a file wants all of them, and wants to know
what else is true of the rows that can be used. So a broken row is noted and left out, and reading goes
on. Rows keep the numbers that they have in the file.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from etude.data.sources import read_table
from etude.data.table import Table
from etude.errors import DataError

T = TypeVar("T")

MOST_FAULTS = 100
"""Faults that only show among other rows (a number among names) are looked for one after another."""


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a part.

    Attributes:
        part: train, validation or test.
        file: where the part comes from.
        row: the number of the row or line in it, where the fault has one.
        column: the column, where the fault has one.
        sentence: what is wrong, with the place in words, and the way out.
    """

    part: str
    file: str
    row: int | None
    column: str | None
    sentence: str

    def to_json(self) -> dict[str, Any]:
        """The fault as plain data."""
        return {
            "part": self.part,
            "file": self.file,
            "row": self.row,
            "column": self.column,
            "sentence": self.sentence,
        }


def fault_of(part: str, file: str, error: Exception) -> Fault:
    """Return the fault that an error tells of; places are written as :meth:`Table.line` writes them.

    >>> error = DataError("a.csv, row 7, column 'text' has an empty text; write one")
    >>> fault_of("train", "a.csv", error).row
    7
    """
    place = rf"{re.escape(file)}(?:, (?:row|line) (?P<row>\d+))?(?:, column '(?P<column>[^']*)')?"
    found = re.search(place, str(error))
    row, column = (found["row"], found["column"]) if found else (None, None)
    return Fault(part, file, None if row is None else int(row), column, str(error))


def read_what_can_be_read(path: str, part: str) -> tuple[Table, list[Fault]]:
    """Read a file; of csv, tsv and jsonl files the rows that can be read, with the faults of the others.

    Raises:
        DataError: there is no such file, or nothing in it can be read.
    """
    try:
        return read_table(path, role=part), []
    except DataError as error:
        readers = {".csv": _csv_rows, ".tsv": _tsv_rows, ".jsonl": _json_rows}
        reader = readers.get(Path(path).suffix.lower())
        if reader is None or not Path(path).is_file():
            raise
        columns: dict[str, None] = {}
        records, numbers, faults = [], [], []
        for number, record in reader(path):
            if isinstance(record, str):
                faults.append(Fault(part, path, number, None, record))
            else:
                columns.update(dict.fromkeys(record))
                records.append(record)
                numbers.append(number)
        if not records or not faults:
            raise error from None
        values = {name: [record.get(name) for record in records] for name in columns}
        return Table(path, values, numbers, "line" if reader is _json_rows else "row"), faults


_Row = tuple[int, dict[str, Any] | str]
"""The number of a row, and its cells or what is wrong with it."""


def _csv_rows(path: str) -> Iterator[_Row]:
    # Bytes that are no UTF-8 come out as halves of surrogate pairs, so that their rows can be named.
    with Path(path).open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        yield from _delimited_rows(path, csv.reader(stream, strict=True))


def _tsv_rows(path: str) -> Iterator[_Row]:
    with Path(path).open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        yield from _delimited_rows(path, csv.reader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))


def _delimited_rows(path: str, reader: Iterator[list[str]]) -> Iterator[_Row]:
    header: list[str] | None = None
    number = 0
    while True:
        fault = ""
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            record, fault = [], f"is no valid csv ({error}); double the quotes inside a quoted field"
        if not record and not fault:
            continue
        if header is None:
            header = [name.strip() for name in record]
            continue
        number += 1
        if not fault and len(record) != len(header):
            fault = (
                f"has {len(record)} field(s) and the header has {len(header)}; quote fields that hold commas"
            )
        if not fault and not _is_unicode("".join(record)):
            fault = "is not UTF-8; save the file as UTF-8"
        yield number, f"{path}, row {number} {fault}" if fault else dict(zip(header, record, strict=True))


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _json_rows(path: str) -> Iterator[_Row]:
    with Path(path).open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if line.isspace():
                continue
            try:
                record = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
                fault = (
                    "" if isinstance(record, dict) else 'holds no object, as {"text": "...", "label": "..."}'
                )
            except UnicodeDecodeError:
                fault = "is not UTF-8; save the file as UTF-8"
            except (ValueError, RecursionError):
                fault = "is no valid JSON; write one JSON object on each line"
            yield number, f"{path}, line {number} {fault}" if fault else record


def sift(
    table: Table, part: str, columns: Sequence[str], check: Callable[[Table], Any]
) -> tuple[Table, list[Fault]]:
    """Leave out the rows that a check refuses for themselves, whatever the other rows are.

    Args:
        table: the rows.
        part: the part that they are of.
        columns: those that the check looks at.
        check: raises :class:`DataError` where a row of a table cannot be used.

    Returns:
        The rows that pass, and the faults of the others.
    """
    try:
        check(table)
    except DataError:
        pass
    else:
        return table, []
    kept, faults = [], []
    for row in range(table.rows):
        alone = Table(
            table.path, {c: [table.column(c)[row]] for c in columns}, [table.numbers[row]], table.unit
        )
        try:
            check(alone)
        except DataError as error:
            faults.append(fault_of(part, table.path, error))
        else:
            kept.append(row)
    return table.take(kept), faults


def commonest_kind_first(table: Table, column: str) -> Table:
    """Put the rows first whose cell is of the commonest kind, so that the others stand out and not they.

    >>> commonest_kind_first(Table("a.jsonl", {"label": [3, "a", "b"]}, [1, 2, 3]), "label").numbers
    [2, 3, 1]
    """
    kinds = [float if type(cell) is int else type(cell) for cell in table.column(column)]
    if len(set(kinds)) <= 1:
        return table
    commonest = Counter(kinds).most_common(1)[0][0]
    return table.take(sorted(range(table.rows), key=lambda row: kinds[row] is not commonest))


def retry(
    table: Table,
    part: str,
    check: Callable[[Table], T],
    *,
    column: str | None = None,
    most: int = MOST_FAULTS,
) -> tuple[T | None, Table, list[Fault]]:
    """Repeat a check that stops at the first fault, without the row that it names, until it passes.

    Args:
        table: the rows.
        part: the part that they are of.
        check: returns something, or raises :class:`DataError`.
        column: one whose cells should be of one kind; the commonest is taken for the right one.
        most: faults after which no more are looked for.

    Returns:
        What the check returned, or nothing where a fault has no row that could be left out; the rows that
        are left, in their order; and the faults.
    """
    tried = table if column is None else commonest_kind_first(table, column)
    faults: list[Fault] = []
    while True:
        try:
            found = check(tried)
        except DataError as error:
            fault = fault_of(part, table.path, error)
            faults.append(fault)
        else:
            break
        kept = [row for row, number in enumerate(tried.numbers) if number != fault.row]
        if len(kept) == tried.rows or not kept or len(faults) >= most:
            return None, _sorted(tried), faults
        tried = tried.take(kept)
    ordered = _sorted(tried)
    return (found if ordered is tried else check(ordered)), ordered, faults


def _sorted(rows: Table) -> Table:
    """The rows in the order in which they stand in their file."""
    if list(rows.numbers) == sorted(rows.numbers):
        return rows
    return rows.take(sorted(range(rows.rows), key=lambda row: rows.numbers[row]))

"""Where rows come from: csv, tsv, jsonl, json and parquet files, standard input and the hub.

Files are read as what they are: a csv or tsv cell is a string, a json or parquet value keeps its
type. Every reader yields tables of at most ``chunk`` rows, so a file of a million rows is read with
the memory of one chunk; :func:`read_table` is the same readers, joined.

In csv files a field may stand in double quotes and then hold commas and line ends; in tsv files a
quote is a character like any other. Files are UTF-8, with or without a byte order mark.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

from etude.data.table import Table, join_tables
from etude.data.writer import RowWriter
from etude.errors import DataError

__all__ = ["RowWriter", "Table", "read_table", "stream_rows"]

STANDARD_INPUT = "standard input"
_WHOLE_FILE_CHUNK = 65_536
_LONGEST_FIELD = 2**31 - 1
_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?(:[\w.-]+)?")


def read_table(path_or_id: str, *, role: str) -> Table:
    """Read a whole file, or one split of a hub data set.

    Args:
        path_or_id: a file whose suffix names its format, or ``"owner/name"`` or ``"name:split"``.
        role: ``"train"``, ``"validation"`` or ``"test"``; the split of a hub id that names none.

    Raises:
        DataError: the file cannot be read as what its suffix says, or the hub cannot be reached.
    """
    if _is_hub_id(path_or_id):
        return _read_hub(path_or_id, role)
    return join_tables(list(_file_chunks(path_or_id, _WHOLE_FILE_CHUNK)))


def stream_rows(path: str, chunk: int) -> Iterator[Table]:
    """Yield the rows of a file, or of standard input (``"-"``), as tables of at most ``chunk`` rows.

    Standard input is jsonl where its first character that is not blank is ``{``, else plain text
    with one example on each line, in a column ``"text"``.

    Raises:
        DataError: as :func:`read_table`, when the reading comes to the fault.
    """
    if path == "-":
        yield from _read_standard_input(sys.stdin.buffer, chunk)
    elif _is_hub_id(path):
        whole = _read_hub(path, "test")
        for start in range(0, whole.rows, chunk):
            yield whole.take(range(start, min(start + chunk, whole.rows)))
    else:
        yield from _file_chunks(path, chunk)


def _is_hub_id(name: str) -> bool:
    """Whether a name is meant for the hub: no file, no known suffix, and its folder is not here."""
    path = Path(name)
    if path.exists() or path.suffix.lower() in _READERS or not _HUB_ID.fullmatch(name):
        return False
    return ":" in name or ("/" in name and not path.parent.exists())


def _file_chunks(path: str, chunk: int) -> Iterator[Table]:
    """Yield the chunks of a file after checking that it is one, and that it holds rows."""
    file = Path(path)
    suffix = file.suffix.lower()
    if file.is_dir():
        raise DataError(f"{path} is a folder and a {_formats()} file is needed; name the file inside it")
    if not file.exists():
        raise DataError(
            f"there is no file {path}; give a {_formats()} file, or a hub data set as 'owner/name' "
            "or 'name:split'"
        )
    if suffix not in _READERS:
        raise DataError(f"{path} ends in {suffix or 'nothing'!r} and a {_formats()} file is needed")
    empty = True
    try:
        for table in _READERS[suffix](path, chunk):
            empty = False
            yield table
    except UnicodeDecodeError:
        raise DataError(_name_bad_byte(path)) from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    if empty:
        raise DataError(f"{path} holds no rows; give a file with at least one example")


def _formats() -> str:
    return "csv, tsv, jsonl, json or parquet"


def _check_columns(path: str, names: list[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DataError(f"{path} has two columns named {name!r}; rename or remove one of them")
        seen.add(name)


def _read_csv(path: str, chunk: int) -> Iterator[Table]:
    # Whole documents stand in one field; Python's limit of 128 KiB guards against unclosed quotes,
    # which the strict reader reports itself.
    csv.field_size_limit(_LONGEST_FIELD)
    with Path(path).open(encoding="utf-8-sig", newline="") as stream:
        yield from _delimited(path, csv.reader(stream, strict=True), chunk, "quote fields that hold commas")


def _read_tsv(path: str, chunk: int) -> Iterator[Table]:
    csv.field_size_limit(_LONGEST_FIELD)
    with Path(path).open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.reader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)
        yield from _delimited(path, reader, chunk, "quotes do not protect tabs in a tsv file")


def _delimited(path: str, reader: Iterable[list[str]], chunk: int, advice: str) -> Iterator[Table]:
    """Yield tables of the records of a csv reader, the first of which is the header."""
    done = 0
    records = (record for record in reader if record)  # a blank line is no record
    header: list[str] | None = None
    cells: list[list[str]] = []
    try:
        for record in records:
            if header is None:
                header = [name.strip() for name in record]
                _check_columns(path, header)
                continue
            if len(record) != len(header):
                raise DataError(
                    f"{path}, row {done + len(cells) + 1} has {len(record)} field(s) and the header has "
                    f"{len(header)}; {advice}"
                )
            cells.append(record)
            if len(cells) == chunk:
                yield _columnwise(path, header, cells, done)
                done += len(cells)
                cells = []
    except csv.Error as error:
        raise DataError(
            f"{path}, row {done + len(cells) + 1} is no valid csv ({error}); "
            "double the quotes inside a quoted field and close each one"
        ) from None
    if header is not None and cells:
        yield _columnwise(path, header, cells, done)


def _columnwise(path: str, header: list[str], cells: list[list[str]], done: int) -> Table:
    values = {name: list(column) for name, column in zip(header, zip(*cells, strict=True), strict=True)}
    return Table(path, values, range(done + 1, done + len(cells) + 1))


def _read_jsonl(path: str, chunk: int) -> Iterator[Table]:
    with Path(path).open("rb") as stream:
        yield from _json_lines(path, enumerate(stream, start=1), chunk)


def _json_lines(path: str, lines: Iterable[tuple[int, bytes]], chunk: int) -> Iterator[Table]:
    """Yield tables of numbered lines, each with one JSON object; blank lines are passed over."""
    columns: dict[str, None] = {}
    records: list[dict[str, Any]] = []
    numbers: list[int] = []
    for number, line in lines:
        if line.isspace():
            continue
        records.append(_parse_line(path, number, line))
        columns.update(dict.fromkeys(records[-1]))
        numbers.append(number)
        if len(records) == chunk:
            yield _table_of(path, columns, records, numbers, "line")
            records, numbers = [], []
    if records:
        yield _table_of(path, columns, records, numbers, "line")


def _parse_line(path: str, number: int, line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n"))
    except UnicodeDecodeError as error:
        raise DataError(_bad_byte(path, number, error)) from None
    except (json.JSONDecodeError, RecursionError) as error:
        reason = f"{error.msg} at character {error.colno}" if isinstance(error, ValueError) else "too deep"
        raise DataError(
            f"{path}, line {number} is no valid JSON ({reason}); write one JSON object on each line"
        ) from None
    if not isinstance(record, dict):
        raise DataError(
            f"{path}, line {number} holds {_json_kind(record)} and an object is needed, "
            'as {"text": "...", "label": "..."}'
        )
    return record


def _table_of(
    path: str, columns: Iterable[str], records: list[dict[str, Any]], numbers: list[int], unit: str
) -> Table:
    return Table(path, {name: [r.get(name) for r in records] for name in columns}, numbers, unit)


def _json_kind(value: object) -> str:
    names = {list: "a list", str: "a string", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), "null")


def _read_json(path: str, chunk: int) -> Iterator[Table]:
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, RecursionError) as error:
        reason = (
            f"{error.msg} in line {error.lineno}, character {error.colno}"
            if isinstance(error, ValueError)
            else "too deep"
        )
        raise DataError(
            f"{path} is no valid JSON ({reason}); a json file holds one list of objects, "
            "and one object on each line makes a jsonl file"
        ) from None
    if not isinstance(content, list):
        kind = "an object" if isinstance(content, dict) else _json_kind(content)
        raise DataError(f"{path} holds {kind} and a list of objects is needed")
    for number, record in enumerate(content, start=1):
        if not isinstance(record, dict):
            raise DataError(f"{path}, row {number} holds {_json_kind(record)} and an object is needed")
    columns = dict.fromkeys(name for record in content for name in record)
    for start in range(0, len(content), chunk):
        part = content[start : start + chunk]
        yield _table_of(path, columns, part, list(range(start + 1, start + len(part) + 1)), "row")


def _read_parquet(path: str, chunk: int) -> Iterator[Table]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = list(file.schema_arrow.names)
            _check_columns(path, names)
            done = 0
            for batch in file.iter_batches(batch_size=chunk):
                values = {name: batch.column(i).to_pylist() for i, name in enumerate(names)}
                yield Table(path, values, range(done + 1, done + batch.num_rows + 1))
                done += batch.num_rows
    except pa.ArrowException as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise DataError(f"{path} is no readable parquet file ({reason}); write it again") from None


_READERS: dict[str, Callable[[str, int], Iterator[Table]]] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".parquet": _read_parquet,
}


def _read_standard_input(stream: BinaryIO, chunk: int) -> Iterator[Table]:
    """Yield tables of a stream whose first character that is not blank tells its format."""
    lines = enumerate(stream, start=1)
    blank: list[tuple[int, bytes]] = []
    first = next(lines, None)
    while first is not None and first[1].isspace():
        blank.append(first)
        first = next(lines, None)
    if first is None:
        raise DataError(f"{STANDARD_INPUT} holds no rows; send one text, or one JSON object, on each line")
    numbered = chain(blank, [first], lines)
    if first[1].removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{"):
        yield from _json_lines(STANDARD_INPUT, numbered, chunk)
        return
    while part := list(islice(numbered, chunk)):
        texts = [_plain_line(number, line) for number, line in part]
        yield Table(STANDARD_INPUT, {"text": texts}, [number for number, _ in part], "line")


def _plain_line(number: int, line: bytes) -> str:
    try:
        text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise DataError(_bad_byte(STANDARD_INPUT, number, error)) from None
    if not text.strip():
        raise DataError(f"{STANDARD_INPUT}, line {number} is blank; send one text on each line")
    return text


def _bad_byte(path: str, number: int, error: UnicodeDecodeError) -> str:
    return (
        f"{path}, line {number} is not UTF-8: byte {error.start + 1} of the line is "
        f"0x{error.object[error.start]:02x}; save the file as UTF-8"
    )


def _name_bad_byte(path: str) -> str:
    """Find the line that a text stream could not decode; streams only know their own buffer."""
    with Path(path).open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return _bad_byte(path, number, error)
    return f"{path} is not UTF-8; save the file as UTF-8"


def _read_hub(identifier: str, role: str) -> Table:
    """Read one split of a hub data set; class ids come back as the names that it gives them."""
    name, _, split = identifier.partition(":")
    from datasets import load_dataset

    try:
        dataset = load_dataset(name, split=split or role)
    except Exception as error:  # the library and the network under it raise whatever they like
        reason = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else repr(error)
        raise DataError(
            f"{identifier} is no file here and could not be read from the hub ({reason}); check the "
            "name, the split and the network, or give a file"
        ) from error
    return table_of_dataset(dataset, identifier)


def table_of_dataset(dataset: Any, identifier: str) -> Table:
    """Return a data set of the ``datasets`` library as a table: class ids as names, images as their bytes.

    Args:
        dataset: one split.
        identifier: what errors call it.

    Raises:
        DataError: there are no rows.
    """
    from datasets import Image

    if dataset.num_rows == 0:
        raise DataError(f"{identifier} holds no rows; give a data set with at least one example")
    for column, feature in dataset.features.items():
        if isinstance(feature, Image):  # decoded by us, as the images of files are
            dataset = dataset.cast_column(column, Image(decode=False))
    values = {column: _named(list(cells), dataset.features[column]) for column, cells in dataset[:].items()}
    return Table(identifier, values, range(1, dataset.num_rows + 1))


def _named(cells: list[Any], feature: Any) -> list[Any]:
    """Turn the class ids of a hub column into names; -1 is the hub's sign of an unknown label."""
    if hasattr(feature, "int2str"):
        return [None if c is None or c < 0 else feature.int2str(c) for c in cells]
    inner = getattr(feature, "feature", None)
    if hasattr(inner, "int2str"):
        return [None if cell is None else _named(cell, inner) for cell in cells]
    return cells

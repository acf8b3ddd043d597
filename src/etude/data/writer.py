"""Rows out: csv, jsonl and parquet files that appear whole or not at all, and jsonl on a stream."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from etude.errors import DataError

Cells = Sequence[Any] | NDArray[Any]

_encode = json.JSONEncoder(ensure_ascii=False, default=str).encode


class RowWriter:
    """Appends chunks of rows to a file, or as jsonl to standard output.

    A file is written under a temporary name beside its own, and renamed when the ``with`` block ends
    without an error; after an error the temporary file is removed and an older file stays.

    Args:
        path: a csv, jsonl or parquet file; ``None`` or ``"-"`` for standard output.
        list_separator: what joins a list in one csv cell.

    Raises:
        DataError: the suffix is unknown, the folder does not exist or the disk refuses.

    >>> with RowWriter(None) as writer:
    ...     writer.write({"label": ["spam"], "probability": [0.9]})
    {"label": "spam", "probability": 0.9}
    """

    def __init__(self, path: str | None, *, list_separator: str = "|") -> None:
        self._path = None if path in (None, "-") else Path(str(path))
        self._separator = list_separator
        self._columns: tuple[str, ...] | None = None
        if self._path is None:
            self._sink: _Sink = _JsonLines(sys.stdout)
            return
        suffix = self._path.suffix.lower()
        if suffix not in (".csv", ".jsonl", ".parquet"):
            raise DataError(
                f"{self._path} ends in {suffix or 'nothing'!r} and rows go to a csv, jsonl or parquet file, "
                "or as jsonl to '-'"
            )
        if self._path.is_dir():
            raise DataError(f"{self._path} is a folder; name a file inside it")
        self._temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}.tmp")
        try:
            self._sink = self._open(suffix)
        except OSError as error:
            raise DataError(f"{self._path} cannot be written: {error.strerror or error}") from error

    def _open(self, suffix: str) -> _Sink:
        if suffix == ".parquet":
            return _Parquet(str(self._path), self._temporary)
        stream = self._temporary.open("w", encoding="utf-8", newline="")
        return _Csv(stream, self._separator) if suffix == ".csv" else _JsonLines(stream)

    def write(self, columns: Mapping[str, Cells]) -> None:
        """Append rows given by column; every chunk has the columns of the first.

        Raises:
            ValueError: the columns differ from the first chunk's, or in their lengths.
            DataError: the disk refuses, or parquet cannot hold the values.
        """
        if self._columns is None:
            self._columns = tuple(columns)
        if tuple(columns) != self._columns:
            raise ValueError(f"this chunk has the columns {tuple(columns)}, the first one {self._columns}")
        cells = {name: _plain(values) for name, values in columns.items()}
        if len({len(values) for values in cells.values()}) > 1:
            raise ValueError(f"the columns have { ({n: len(v) for n, v in cells.items()}) } rows")
        try:
            self._sink.write(cells)
        except OSError as error:
            raise self._refused(error) from error

    def close(self) -> None:
        """Finish the file and give it its name."""
        try:
            self._sink.close()
            if self._path is not None:
                self._temporary.replace(self._path)
        except OSError as error:
            raise self._refused(error) from error

    def discard(self) -> None:
        """Throw the unfinished file away."""
        if self._path is None:
            return
        with suppress(OSError, pa.ArrowException):  # the error that brought us here is the one to tell
            self._sink.close()
        self._temporary.unlink(missing_ok=True)

    def _refused(self, error: OSError) -> Exception:
        if self._path is None:  # a reader that left (a closed pipe) is the command line's affair
            return error
        self.discard()
        return DataError(
            f"{self._path} cannot be written: {error.strerror or error}; free some space or "
            "choose another path"
        )

    def __enter__(self) -> RowWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()


class _Sink(Protocol):
    def write(self, columns: Mapping[str, list[Any]]) -> None: ...

    def close(self) -> None: ...


class _JsonLines:
    """One JSON object on each line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, columns: Mapping[str, list[Any]]) -> None:
        names = tuple(columns)
        for row in zip(*columns.values(), strict=True):
            self._stream.write(_encode(dict(zip(names, row, strict=True))) + "\n")
        if self._stream is sys.stdout:
            self._stream.flush()

    def close(self) -> None:
        if self._stream is not sys.stdout:
            _close_synced(self._stream)


class _Csv:
    """A header and one record for each row; a list becomes one cell, an absent value an empty one."""

    def __init__(self, stream: TextIO, separator: str) -> None:
        self._stream = stream
        self._separator = separator
        self._writer = csv.writer(stream, lineterminator="\n")
        self._headed = False

    def write(self, columns: Mapping[str, list[Any]]) -> None:
        if not self._headed:
            self._writer.writerow(columns)
            self._headed = True
        cells = [[self._cell(value) for value in values] for values in columns.values()]
        self._writer.writerows(zip(*cells, strict=True))

    def _cell(self, value: Any) -> Any:
        if isinstance(value, list):
            return self._separator.join(str(item) for item in value)
        return _encode(value) if isinstance(value, dict) else value

    def close(self) -> None:
        _close_synced(self._stream)


class _Parquet:
    """Row groups of one schema, which the first chunk sets."""

    def __init__(self, path: str, temporary: Path) -> None:
        self._path = path
        self._stream = temporary.open("wb")
        self._writer: Any = None
        self._schema: Any = None

    def write(self, columns: Mapping[str, list[Any]]) -> None:
        try:
            if self._writer is None:
                found = pa.table(dict(columns)).schema
                self._schema = pa.schema([pa.field(f.name, _typed(f.type)) for f in found])
                self._writer = pq.ParquetWriter(self._stream, self._schema)
            self._writer.write_table(pa.table(dict(columns), schema=self._schema))
        except pa.ArrowException as error:
            reason = str(error).splitlines()[0].rstrip(".")
            raise DataError(
                f"{self._path} cannot hold these values in one parquet column ({reason}); write jsonl instead"
            ) from error

    def close(self) -> None:
        if self._stream.closed:
            return
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._stream, pa.schema([]))
        try:
            self._writer.close()
            os.fsync(self._stream.fileno())
        finally:
            self._stream.close()


def _typed(kind: Any) -> Any:
    """A chunk of absent values or empty lists tells no type; later ones may well hold strings."""
    if pa.types.is_null(kind):
        return pa.string()
    return pa.list_(_typed(kind.value_type)) if pa.types.is_list(kind) else kind


def _plain(values: Cells) -> list[Any]:
    """Plain Python values, also from NumPy arrays; rows of a matrix become lists."""
    return values.tolist() if isinstance(values, np.ndarray) else list(values)


def _close_synced(stream: TextIO) -> None:
    """Close a file once its bytes are on the disk, so that the rename never names a hollow file."""
    if stream.closed:
        return
    try:
        stream.flush()
        os.fsync(stream.fileno())
    finally:
        stream.close()

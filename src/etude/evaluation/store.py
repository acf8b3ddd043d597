"""Scores of any number of rows, kept by label: in memory while they are few, in a temporary file after that.

A metric that sorts needs all the scores of a label, though of one label at a time. Rows come in all
labels at once; so blocks of rows are turned round and written label by label, and a label is read back as
one piece of each block. The file is read, not mapped, and memory stays at one block and one label.
Shapes: N rows, C labels.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Iterator
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from etude.errors import RunError

Matrix = NDArray[Any]

_CELLS = 2**21
"""Scores that are collected before they are turned round."""
_IN_MEMORY = 2**26
"""Bytes that stay in memory; a file takes over beyond them."""


class _Block(NamedTuple):
    """Where a block of rows lies: for each label its scores, then for each label its targets."""

    offset: int
    rows: int
    scores: np.dtype[Any]
    targets: np.dtype[Any]


class ScoreStore:
    """Scores (N, C) with their targets (N, C), added in chunks of rows and read by label."""

    def __init__(self, n_labels: int) -> None:
        self.n_labels = n_labels
        self.rows = 0
        self._waiting: list[tuple[Matrix, Matrix]] = []
        self._waiting_rows = 0
        self._blocks: list[_Block] = []
        # Closed with the store, since it outlives the method that opens it.
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115
        weakref.finalize(self, self._file.close)

    def add(self, scores: Matrix, targets: Matrix) -> None:
        """Add rows: scores (n, C) and targets (n, C) from 0 to 1, in their own precision."""
        hard = targets.dtype == np.bool_ or bool(((targets == 0) | (targets == 1)).all())
        # Copies, since the caller may use the same memory for the next chunk.
        self._waiting.append((_as_float(scores), targets.astype(np.bool_) if hard else _as_float(targets)))
        self._waiting_rows += len(scores)
        self.rows += len(scores)
        if self._waiting_rows * self.n_labels >= _CELLS:
            self._write()

    def label(self, c: int) -> tuple[Matrix, Matrix]:
        """Scores (N,) and targets (N,) of one label, in the order of the rows."""
        if self._waiting:
            self._write()
        found: list[tuple[Matrix, Matrix]] = []
        for offset, rows, scores, targets in self._blocks:
            behind = offset + self.n_labels * rows * scores.itemsize
            found.append((self._read(offset, c, rows, scores), self._read(behind, c, rows, targets)))
        if not found:
            return np.zeros(0), np.zeros(0, dtype=np.bool_)
        return np.concatenate([s for s, _ in found]), np.concatenate([t for _, t in found])

    def labels(self) -> Iterator[tuple[Matrix, Matrix]]:
        """Scores and targets of one label after the other."""
        return (self.label(c) for c in range(self.n_labels))

    def _write(self) -> None:
        scores = np.concatenate([s for s, _ in self._waiting])
        targets = np.concatenate([t for _, t in self._waiting])
        self._waiting, self._waiting_rows = [], 0
        try:
            offset = self._file.seek(0, os.SEEK_END)
            self._file.write(scores.T.tobytes())
            self._file.write(targets.T.tobytes())
        except OSError as error:
            raise RunError(
                f"the scores of {self.rows:,} rows could not be kept in a temporary file of "
                f"{tempfile.gettempdir()}: {error.strerror or error}; name a folder with room in TMPDIR"
            ) from None
        self._blocks.append(_Block(offset, len(scores), scores.dtype, targets.dtype))

    def _read(self, offset: int, c: int, rows: int, dtype: np.dtype[Any]) -> Matrix:
        self._file.seek(offset + c * rows * dtype.itemsize)
        return np.frombuffer(self._file.read(rows * dtype.itemsize), dtype=dtype)


def _as_float(values: Matrix) -> Matrix:
    """A copy in single precision, or in double where that is what is given."""
    return values.astype(np.float32 if values.dtype.itemsize <= 4 else np.float64)

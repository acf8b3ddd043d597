"""Numeric columns beside the text: read, checked, and measured on the training part."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etude.config.numbers import NumberScale
from etude.data.table import Table
from etude.errors import DataError

Numbers = NDArray[np.float64]


def read_numbers(table: Table, columns: Sequence[str], *, fill: bool) -> Numbers:
    """Return the numbers (N, K) of K columns, with NaN where one is missing and may be.

    A number is missing where the cell is null, blank or NaN.

    Args:
        table: N rows.
        columns: K names.
        fill: whether a number may be missing.

    Raises:
        DataError: a column is missing, or a cell holds no finite number; names the file, the row and the
            column.

    >>> table = Table("a.csv", {"age": ["41", ""]}, range(1, 3))
    >>> read_numbers(table, ["age"], fill=True).tolist()
    [[41.0], [nan]]
    """
    numbers = np.empty((table.rows, len(columns)))
    for k, column in enumerate(columns):
        numbers[:, k] = [
            _number(table, column, row, cell, fill) for row, cell in enumerate(table.column(column))
        ]
    return numbers


def fit_scale(table: Table, columns: Sequence[str], numbers: Numbers, *, fill: bool) -> NumberScale:
    """Return the scale of the training part's numbers (N, K).

    Raises:
        DataError: a column has no number in any training row.
    """
    for k, column in enumerate(columns):
        if np.isnan(numbers[:, k]).all():
            raise DataError(
                f"{table.path}, column {column!r} has no number in any training row; remove it from "
                "data.numeric"
            )
    return NumberScale.fit(columns, numbers, fill=fill)


def constant_columns(columns: Sequence[str], numbers: Numbers) -> list[str]:
    """Return the columns that hold the same number in all rows that have one."""
    same = np.nanmin(numbers, axis=0) == np.nanmax(numbers, axis=0)
    return [column for column, constant in zip(columns, same.tolist(), strict=True) if constant]


def _number(table: Table, column: str, row: int, cell: Any, fill: bool) -> float:
    missing = cell is None or cell != cell or (isinstance(cell, str) and not cell.strip())  # NaN: c != c
    if missing:
        if fill:
            return math.nan
        raise DataError(
            f"{table.line(row, column)} has no number; give it one, or train with "
            'data.numeric_missing = "mean"'
        )
    try:
        number = float(cell)
    except (TypeError, ValueError, OverflowError):
        number = math.inf
    if not math.isfinite(number):
        raise DataError(f"{table.line(row, column)} holds {cell!r}, and a finite number is expected")
    return number

"""Soft labels: cells that say how likely each label is, as the votes of several annotators do.

A cell is a mapping from names to shares, ``{"spam": 0.8, "ham": 0.2}``, or a list of one share for each
label. Of a single-label task the shares of a row sum to 1; of a multilabel task each stands for itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from etude.data.table import Table
from etude.errors import DataError

Shares = dict[str, float]
"""The shares of one row, by label."""

TOLERANCE = 1e-3
"""How far the shares of a row may be from 1 in sum, as files hold rounded numbers."""


def as_mapping(cell: Any) -> Any:
    """Return a parquet map, which is read as a list of pairs, as a mapping; anything else as it is."""
    pairs = isinstance(cell, list) and bool(cell) and all(isinstance(item, tuple) for item in cell)
    return dict(cell) if pairs else cell


def are_fractions(cells: Sequence[Any]) -> bool:
    """Whether cells are lists of numbers that are not all whole ones.

    >>> are_fractions([[0.5, 0.5], [1, 0]]), are_fractions([[0, 1], [1.0, 0.0]])
    (True, False)
    """
    items = [item for cell in cells for item in cell]
    numbers = all(isinstance(item, int | float) and not isinstance(item, bool) for item in items)
    return numbers and any(item % 1 != 0 for item in items)


def read_mappings(table: Table, column: str, cells: Sequence[dict[Any, Any]]) -> list[Shares]:
    """Return the shares of each row from mappings; a null share is none, as parquet's structs need it.

    Raises:
        DataError: a name is blank or given twice, or a share is no number from 0 to 1.
    """
    found = []
    for row, cell in enumerate(cells):
        shares: Shares = {}
        for key, share in cell.items():
            name = str(key).strip()
            if not name or name in shares:
                fault = "twice" if name else "without a name"
                raise DataError(f"{table.line(row, column)} gives the label {name!r} {fault}; name each once")
            if share is not None:
                shares[name] = _share(table, column, row, name, share)
        found.append(shares)
    return found


def read_fractions(
    table: Table, column: str, cells: Sequence[list[Any]], length: int | None
) -> tuple[list[Shares], tuple[str, ...]]:
    """Return the shares of each row from lists of one length, and the labels, ``"0"`` to ``"C-1"``.

    Args:
        table: the rows.
        column: the labels column.
        cells: a list for each row.
        length: C, where it is known; otherwise the commonest length.

    Raises:
        DataError: a list has another length, or a share is no number from 0 to 1.
    """
    if length is None:
        length = Counter(map(len, cells)).most_common(1)[0][0]
    for row, cell in enumerate(cells):
        if len(cell) != length:
            raise DataError(
                f"{table.line(row, column)} holds a list of {len(cell)} shares, and {length} are expected, "
                "one for each label"
            )
    order = tuple(str(c) for c in range(length))
    shares = [
        {name: _share(table, column, row, name, share) for name, share in zip(order, cell, strict=True)}
        for row, cell in enumerate(cells)
    ]
    return shares, order


def refuse_no_distribution(table: Table, column: str, shares: Sequence[Shares]) -> None:
    """Refuse rows whose shares do not sum to 1.

    Raises:
        DataError: names the first such row and its sum.
    """
    for row, found in enumerate(shares):
        total = sum(found.values())
        if abs(total - 1.0) > TOLERANCE:
            raise DataError(
                f"{table.line(row, column)} holds shares that sum to {total:.6g}, and those of one row must "
                'sum to 1; correct them, or set task = "multilabel", where each stands for itself'
            )


def _share(table: Table, column: str, row: int, name: str, share: Any) -> float:
    number = isinstance(share, int | float) and not isinstance(share, bool)
    if not (number and 0.0 <= share <= 1.0):
        raise DataError(
            f"{table.line(row, column)} gives the label {name!r} the share {share!r}, and a number from 0 "
            "to 1 is expected"
        )
    return float(share)

"""DataFrames of pandas as tables, without importing pandas."""

from __future__ import annotations

from typing import Any

from etude.data.table import Table
from etude.errors import DataError


def table_of_frame(frame: Any, name: str = "the DataFrame") -> Table:
    """Return a DataFrame as a table of plain Python values; missing ones of all kinds are ``None``.

    Args:
        frame: with columns that each have a name of their own; its index is not looked at.
        name: what errors call it; rows are counted from 0 there.

    Raises:
        DataError: its columns have several levels, a name occurs twice, or it is no DataFrame.
    """
    if not hasattr(frame, "columns") or not hasattr(frame, "iloc"):
        raise DataError(f"{name} is a {type(frame).__name__}, and a pandas DataFrame is expected")
    if getattr(frame.columns, "nlevels", 1) > 1:
        raise DataError(
            f"{name} has columns of {frame.columns.nlevels} levels, as {frame.columns[0]!r}, and one name "
            "for each is expected; join the levels, as with frame.columns = frame.columns.map('_'.join)"
        )
    if getattr(frame.index, "nlevels", 1) > 1:
        raise DataError(
            f"{name} has an index of {frame.index.nlevels} levels, whose values would be lost; make them "
            "columns with frame.reset_index(), or drop them with frame.reset_index(drop=True)"
        )
    names = [str(column) for column in frame.columns]
    for column in names:
        if names.count(column) > 1:
            raise DataError(
                f"{name} has {names.count(column)} columns named {column!r}; rename or remove them"
            )
    values = {column: _plain(frame.iloc[:, k]) for k, column in enumerate(names)}
    return Table(name, values, range(len(frame)))


def _plain(series: Any) -> list[Any]:
    """The cells of one column as Python's own values."""
    cells = series.astype(object)
    plain: list[Any] = cells.where(series.notna(), None).tolist()
    return plain

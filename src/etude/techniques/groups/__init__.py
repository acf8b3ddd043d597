"""Techniques of the family *groups*, and how those that take a list of tables read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from etude.config.explain import validated
from etude.errors import ConfigError


def read_tables(model: type[BaseModel], given: Any, word: str) -> Any:
    """Make models of a list of tables, so that a fault names the table and the key.

    Args:
        model: the class of each table.
        given: what the config holds; what is no list of tables is left to the config's own checks.
        word: what a table is called.

    Raises:
        ValueError: a table has a fault.

    >>> class Point(BaseModel):
    ...     x: float
    >>> read_tables(Point, [{"x": 1.0}, {"x": "far"}], "point")
    Traceback (most recent call last):
    ValueError: point 2: x is 'far' and must be a number
    """
    if not isinstance(given, list):
        return given
    tables: list[Any] = []
    for number, row in enumerate(given, start=1):
        try:
            tables.append(validated(model, row) if isinstance(row, Mapping) else row)
        except ConfigError as error:
            raise ValueError(f"{word} {number}: {error}") from None
    return tables

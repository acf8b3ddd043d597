"""How the rows of a kind of data are read: a loader, and the content that it makes of a table's rows.

A table comes in as cells. A loader checks every cell of a part and keeps what it needs as *content*;
it learns from the training rows alone what has to be learned (a scale, a vocabulary of categories), and
prepares content into :class:`~etude.core.examples.Examples`. What is the same for all kinds of data
(labels, weights, groups, splits, the lock on the test part) stands in ``read.py`` and ``load.py``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from etude.core.examples import Examples
from etude.core.observe import Reporter
from etude.data.sources import read_table
from etude.data.table import Table

Rows = NDArray[np.int64]
"""Numbers of rows, counted from 0."""


class Content(Protocol):
    """The checked inputs of N rows, before they are prepared."""

    def __len__(self) -> int: ...

    def take(self, rows: Rows) -> Self:
        """Some of the rows, in the order given."""

    def join(self, other: Self) -> Self:
        """These rows and those of another content behind them."""

    def shown(self) -> list[str]:
        """What reports show of each row: (N,)."""

    def fingerprints(self) -> list[str]:
        """What is equal for rows whose inputs count as the same: (N,)."""


class Loader(ABC):
    """Reads the rows of one kind of data; made anew for each run.

    Attributes:
        same: what two rows share that count as the same, as a sentence puts it.
        fitted: what was learned from the training rows, with ``to_json``; or None.
    """

    same = "the same inputs"
    fitted: Any = None

    def open(self, source: str, role: str) -> Table:
        """Read a file, a folder or a hub data set as a table.

        Raises:
            DataError: it cannot be read.
        """
        return read_table(source, role=role)

    @abstractmethod
    def read(self, table: Table) -> Content:
        """Check every row of a table; the first table is that of the training file.

        Raises:
            DataError: a column is missing, or a cell cannot be used; names file, row and column.
        """

    def fit(self, train: Content) -> None:
        """Learn what must be learned from the rows that are trained on, and keep it as ``fitted``.

        Raises:
            DataError: they hold nothing to learn from.
        """
        return

    @abstractmethod
    def prepare(
        self,
        content: Any,
        targets: NDArray[np.float32] | None,
        weights: NDArray[np.float32] | None,
        reporter: Reporter,
        place: Callable[[int], str],
    ) -> Examples:
        """Turn content into examples.

        Args:
            content: N rows, as ``read`` gave them.
            targets: (N, C), or none for rows without labels.
            weights: (N,), or none for ones.
            reporter: shows a bar where this takes long.
            place: names a row in an error.

        Raises:
            DataError: a row cannot be used.
        """

    def warnings(self, train: Any, examples: Any) -> list[str]:
        """Sentences on the training rows that the user should read.

        Args:
            train: the training content.
            examples: what was made of it.
        """
        return []

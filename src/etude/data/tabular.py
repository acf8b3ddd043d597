"""The loader of tables: columns of numbers, categories, dates and truths, and texts beside them.

Shapes: N rows, B rows of a batch, K columns of numbers as they are read and Kn as they are prepared, M of
categories as they are read and Kc as they are prepared, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from etude.config.columns import ColumnsConfig
from etude.config.run import Config
from etude.core.examples import Examples
from etude.core.observe import Reporter
from etude.data.cells import DATE_PARTS, Numbers
from etude.data.columns import Column, find_columns
from etude.data.loader import Loader
from etude.data.table import Table
from etude.data.table_content import TableContent, TableReader
from etude.data.table_scale import TableScale, fit_category, fit_number, is_constant
from etude.errors import DataError

MakeTexts = Callable[[list[str], Reporter, Callable[[int], str]], Examples]
"""Tokenizes the texts (N,) beside a table: texts, who shows a bar, what names a row -> examples."""


class TableExamples:
    """N prepared rows, kept whole in memory.

    Attributes:
        numbers: (N, Kn) float32, scaled, with the indicators of missing ones.
        categories: (N, Kc) int64, codes.
        raw_numbers: (N, Kr) float64, unscaled and with NaN where one is missing, without indicators.
        texts: tokenized texts beside the table, or none.
        targets: (N, C) float32.
        weights: (N,) float32.
        lengths: (N,) int64, tokens of the texts, or ones.
        number_names, category_names: what the columns of ``raw_numbers`` and of ``categories`` are called.
        cardinalities: (Kc,) how many codes each column of categories has.
    """

    def __init__(
        self,
        numbers: Tensor,
        categories: Tensor,
        raw_numbers: Numbers,
        targets: Tensor,
        weights: Tensor,
        *,
        scale: TableScale,
        texts: Examples | None = None,
    ) -> None:
        self.numbers, self.categories, self.raw_numbers = numbers, categories, raw_numbers
        self.targets, self.weights, self.texts = targets, weights, texts
        self.number_names = [column.name for column in scale.numbers]
        self.category_names = [column.name for column in scale.categories]
        self.cardinalities = scale.cardinalities
        self.lengths = np.ones(len(weights), dtype=np.int64) if texts is None else texts.lengths
        # What is empty is no input: a network is not asked to look at nothing.
        named = {"numbers": numbers, "categories": categories}
        self._inputs = {name: value for name, value in named.items() if value.shape[1]}

    def __len__(self) -> int:
        return len(self.weights)

    @property
    def vocabulary(self) -> NDArray[np.int64]:
        """The distinct tokens of the texts beside the table."""
        found: NDArray[np.int64] = getattr(self.texts, "vocabulary", np.zeros(0, dtype=np.int64))
        return found

    def inputs(self, rows: NDArray[np.int64]) -> dict[str, Tensor]:
        """Return ``numbers`` (B, Kn) and ``categories`` (B, Kc), as far as there are any, and the tokens."""
        index = torch.from_numpy(rows)
        found = {name: value.index_select(0, index) for name, value in self._inputs.items()}
        return found if self.texts is None else found | self.texts.inputs(rows)


def fit_table(
    content: TableContent, columns: Sequence[Column], config: ColumnsConfig
) -> tuple[TableScale, list[str]]:
    """Learn the scale from training rows; columns that tell nothing are left out, with a sentence each.

    Raises:
        DataError: no column is left and there are no texts.
    """
    dates = {f"{c.name} {part}" for c in columns if c.kind == "date" for part in DATE_PARTS}
    first_parts = {f"{c.name} {DATE_PARTS[0]}" for c in columns if c.kind == "date"}
    numbers, categories, left_out = [], [], []
    for k, name in enumerate(content.number_names):
        there = content.numbers[:, k]
        if not is_constant(there):
            # All parts of a date are missing together, and one indicator says so.
            indicator = name not in dates or name in first_parts
            numbers.append(fit_number(name, there, config, indicator=indicator))
        elif name not in dates:
            left_out.append(name)
    for m, (name, known) in enumerate(content.known.items()):
        codes = content.codes[:, m]
        if (codes == codes[0]).all():
            left_out.append(name)
        else:
            categories.append(fit_category(name, codes, list(known), config))
    if not numbers and not categories and content.texts is None:
        raise DataError(
            f"{content.table.path}: no column holds different values in the training rows, so there is "
            "nothing to learn from; add columns or rows"
        )
    notes = [
        f"column {name!r} holds the same in all training rows and tells nothing; it is left out"
        for name in left_out
    ]
    return TableScale(tuple(numbers), tuple(categories)), notes


def build_table_examples(
    content: TableContent,
    scale: TableScale,
    targets: NDArray[np.float32] | None,
    weights: NDArray[np.float32] | None,
    texts: Examples | None = None,
) -> TableExamples:
    """Scale and code the rows of a table.

    Args:
        content: N rows.
        scale: what the training rows gave.
        targets: (N, C), or none for rows without labels.
        weights: (N,), or none for ones.
        texts: their tokenized texts, if they have any.
    """
    n = len(content)
    at = [content.number_names.index(column.name) for column in scale.numbers]
    raw = content.numbers[:, at]
    positions = {name: m for m, name in enumerate(content.known)}
    codes = np.zeros((n, len(scale.categories)), dtype=np.int64)
    for m, column in enumerate(scale.categories):
        table = column.codes_of(list(content.known[column.name]))
        codes[:, m] = table[content.codes[:, positions[column.name]]]
    return TableExamples(
        torch.from_numpy(scale.scale(raw)),
        torch.from_numpy(codes),
        raw,
        torch.zeros(n, 0) if targets is None else torch.from_numpy(targets),
        torch.ones(n) if weights is None else torch.from_numpy(weights),
        scale=scale,
        texts=texts,
    )


@dataclass(frozen=True)
class FittedTable:
    """What a saved model keeps of its loader: the columns that are read, and the scale.

    Attributes:
        columns: the columns.
        scale: the scale of those that are used.
        fill: whether cells may be missing.
    """

    columns: tuple[Column, ...]
    scale: TableScale
    fill: bool

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "columns": [column.to_json() for column in self.columns],
            "fill": self.fill,
            **self.scale.to_json(),
        }

    @classmethod
    def from_json(cls, described: Mapping[str, Any]) -> FittedTable:
        """Take back what :meth:`to_json` gave."""
        columns = tuple(Column(**column) for column in described["columns"])
        return cls(columns, TableScale.from_json(described), described["fill"])

    @property
    def reads_text(self) -> bool:
        """Whether there is a column of text."""
        return any(column.kind == "text" for column in self.columns)

    @cached_property
    def used(self) -> tuple[Column, ...]:
        """The columns without those that tell nothing."""
        names = {column.name for column in self.scale.numbers}
        names |= {column.name for column in self.scale.categories}
        return tuple(
            column
            for column in self.columns
            if column.kind == "text"
            or column.name in names
            or any(f"{column.name} {part}" in names for part in DATE_PARTS)
        )

    def content(self, table: Table) -> TableContent:
        """Read the rows of a table to predict; columns that are not used need not be there.

        Raises:
            DataError: a column is missing, or a cell cannot be used; names file, row and column.
        """
        return TableReader(self.used, fill=self.fill).read(table)


class TableLoader(Loader):
    """Reads tables.

    Args:
        config: the run's.
        make_texts: tokenizes columns of text; without it they are left out.
        fitted: what an earlier model has learned from its training rows, to be used as it is.
    """

    fitted: FittedTable | None = None

    def __init__(
        self, config: Config, make_texts: MakeTexts | None = None, fitted: FittedTable | None = None
    ) -> None:
        self.fitted = self._given = fitted
        self._data, self._columns, self._make_texts = config.data, config.columns, make_texts
        self._reader: TableReader | None = None
        self._notes: list[str] = []

    def read(self, table: Table) -> TableContent:
        if self._reader is None and self._given is not None:
            self._reader = TableReader(self._given.used, fill=self._given.fill)
        if self._reader is None:
            self._reader = TableReader(self._find(table), fill=self._columns.missing == "median")
        return self._reader.read(table)

    def _find(self, table: Table) -> list[Column]:
        data = self._data
        labels = [data.labels] if isinstance(data.labels, str) else data.labels
        taken = [*labels, *(name for name in (data.weight, data.group, data.time) if name is not None)]
        columns, self._notes = find_columns(table, self._columns, taken)
        if self._make_texts is not None:
            return columns
        texts = [column.name for column in columns if column.kind == "text"]
        self._notes += [
            f"column {name!r} holds free text and is left out; give [backbone.text] a path to read it, or "
            "name the column in columns.categorical or columns.ignore"
            for name in texts
        ]
        rest = [column for column in columns if column.kind != "text"]
        if not rest:
            raise DataError(
                f'{table.path} has no column beside the text {", ".join(texts)}; use kind = "text", or give '
                "[backbone.text] a path"
            )
        return rest

    def fit(self, train: Any) -> None:
        if self._given is not None:
            return
        if self._reader is None:
            raise RuntimeError("nothing was read yet")
        columns = self._reader.columns
        scale, notes = fit_table(train, columns, self._columns)
        self.fitted = FittedTable(columns, scale, self._columns.missing == "median")
        self._notes += notes

    def prepare(
        self,
        content: Any,
        targets: NDArray[np.float32] | None,
        weights: NDArray[np.float32] | None,
        reporter: Reporter,
        place: Callable[[int], str],
    ) -> TableExamples:
        if self.fitted is None:
            raise RuntimeError("the loader was not fitted yet")
        texts = None
        if self._make_texts is not None and content.texts is not None:
            texts = self._make_texts(content.texts, reporter, place)
        return build_table_examples(content, self.fitted.scale, targets, weights, texts)

    def warnings(self, train: Any, examples: Any) -> list[str]:
        return list(dict.fromkeys(self._notes))

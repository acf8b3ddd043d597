"""What is learned from the training rows of a table: how its numbers are scaled, its categories' codes.

A saved model keeps it as JSON. Shapes: N rows, K columns of numbers, M columns of categories.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri  # type: ignore[import-untyped]

from etude.config.columns import ColumnsConfig
from etude.data.cells import Codes, Numbers

N_KNOTS = 1000
"""Most points at which the ranks of a column are kept."""

UNSEEN = 0
"""The code of categories that are rare or were not seen; known ones count from 1."""


@dataclass(frozen=True)
class NumberColumn:
    """How one column of numbers is scaled.

    Attributes:
        name: the column, with the part of a date behind it.
        low, high: numbers outside are pulled to these.
        center, spread: what is subtracted, and what the rest is divided by.
        median: what a missing number counts as.
        indicator: whether a column of 0 and 1 says where a number is missing.
        knots, normal: with scaling by ranks: numbers in ascending order, and what they become.
    """

    name: str
    low: float
    high: float
    center: float
    spread: float
    median: float
    indicator: bool
    knots: tuple[float, ...] = ()
    normal: tuple[float, ...] = ()

    def apply(self, numbers: Numbers) -> Numbers:
        """Scale numbers (N,), a missing one as the median.

        >>> column = NumberColumn("age", 0.0, 10.0, center=5.0, spread=2.0, median=6.0, indicator=True)
        >>> column.apply(np.array([7.0, 99.0, np.nan])).tolist()
        [1.0, 2.5, 0.5]
        """
        filled = np.where(np.isnan(numbers), self.median, numbers)
        pulled = np.clip(filled, self.low, self.high)
        if self.knots:
            return np.interp(pulled, self.knots, self.normal)
        # Halves first: the difference of two numbers may be too large where their halves' is not.
        return (pulled / 2 - self.center / 2) / self.spread * 2


@dataclass(frozen=True)
class CategoryColumn:
    """The codes of one column of categories.

    Attributes:
        name: the column.
        known: its categories, the n-th of which has the code n + 1; ``None`` is a missing cell.
        fill: what a missing cell counts as, or ``None`` where it is a category of its own.
    """

    name: str
    known: tuple[str | None, ...]
    fill: str | None = None

    @property
    def n_codes(self) -> int:
        """The codes that there are, that of unseen ones included."""
        return len(self.known) + 1

    def codes_of(self, names: Sequence[str | None]) -> Codes:
        """The codes of categories, :data:`UNSEEN` where one is not known.

        >>> CategoryColumn("sex", ("f", "m")).codes_of(["m", "x", None]).tolist()
        [2, 0, 0]
        """
        codes = {name: code for code, name in enumerate(self.known, start=1)}
        filled = (self.fill if name is None else name for name in names)
        return np.asarray([codes.get(name, UNSEEN) for name in filled], dtype=np.int64)


@dataclass(frozen=True)
class TableScale:
    """How the rows of a table become numbers and codes.

    Attributes:
        numbers: the K columns of numbers that are used.
        categories: the M columns of categories that are used.
    """

    numbers: tuple[NumberColumn, ...]
    categories: tuple[CategoryColumn, ...]

    @property
    def n_numbers(self) -> int:
        """The numbers of a prepared row: K and an indicator for each column that has one."""
        return len(self.numbers) + sum(column.indicator for column in self.numbers)

    @property
    def cardinalities(self) -> list[int]:
        """(M,) the codes of each column of categories."""
        return [column.n_codes for column in self.categories]

    def names(self) -> list[str]:
        """What each prepared number is called."""
        missing = [f"{column.name} is missing" for column in self.numbers if column.indicator]
        return [*(column.name for column in self.numbers), *missing]

    def scale(self, numbers: Numbers) -> NDArray[np.float32]:
        """Scale numbers (N, K); the indicators stand behind them."""
        scaled = np.empty((len(numbers), self.n_numbers), dtype=np.float32)
        for k, column in enumerate(self.numbers):
            scaled[:, k] = column.apply(numbers[:, k])
        at = [k for k, column in enumerate(self.numbers) if column.indicator]
        scaled[:, len(self.numbers) :] = np.isnan(numbers[:, at])
        return scaled

    def to_json(self) -> dict[str, Any]:
        """Lists, numbers and texts by name, for a file."""
        return {
            "numbers": [asdict(column) for column in self.numbers],
            "categories": [asdict(column) for column in self.categories],
        }

    @classmethod
    def from_json(cls, described: Mapping[str, Any]) -> TableScale:
        """Take back what :meth:`to_json` gave."""

        def tuples(table: Mapping[str, Any]) -> dict[str, Any]:
            return {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}

        return cls(
            tuple(NumberColumn(**tuples(column)) for column in described["numbers"]),
            tuple(CategoryColumn(**tuples(column)) for column in described["categories"]),
        )


def fit_number(name: str, numbers: Numbers, config: ColumnsConfig, *, indicator: bool = True) -> NumberColumn:
    """Learn the scale of a column from the numbers (N,) of the training rows, of which one at least is there.

    Args:
        name: the column's.
        numbers: (N,), NaN where one is missing.
        config: how numbers are scaled.
        indicator: whether missing numbers get a column that says so, if there are any.

    >>> scale = fit_number("age", np.array([1.0, 2.0, 3.0]), ColumnsConfig(scaling="robust", winsorise=0))
    >>> scale.center, scale.spread
    (2.0, 1.0)
    """
    there = numbers[~np.isnan(numbers)]
    low, high = np.quantile(there, [config.winsorise, 1.0 - config.winsorise]).tolist()
    # A column that is nearly constant has equal quantiles, and what is not there would be lost.
    if low == high:
        low, high = float(there.min()), float(there.max())
    pulled = np.clip(there, low, high)
    center, spread = _center_and_spread(pulled, config.scaling)
    knots, normal = normal_scores(pulled) if config.scaling == "quantile" else ((), ())
    return NumberColumn(
        name,
        low,
        high,
        center,
        spread,
        float(np.median(there)),
        indicator and len(there) < len(numbers),
        knots,
        normal,
    )


def _center_and_spread(numbers: Numbers, scaling: str) -> tuple[float, float]:
    """What is subtracted from numbers (N,), and what the rest is divided by."""
    if scaling in ("none", "quantile"):
        return 0.0, 1.0
    # In units of the largest, whose square may be infinite.
    unit = float(np.abs(numbers).max()) or 1.0
    inner = numbers / unit
    deviation = float(inner.std()) * unit
    if scaling == "standard":
        center, spread = float(inner.mean()) * unit, deviation
    else:
        quarter, center, last = np.quantile(numbers, [0.25, 0.5, 0.75]).tolist()
        spread = last - quarter or deviation
    constant = float(numbers.min()) == float(numbers.max())
    return (float(numbers[0]), 1.0) if constant else (center, spread or 1.0)


def normal_scores(numbers: Numbers) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return ascending knots and the normal quantile of each knot's share of numbers (N,) below it.

    Equal numbers are counted half below, so that they get the score of the middle of their ranks: a column
    of zeros with a few others has its zeros near 0 and not at the end of the scale.

    >>> knots, normal = normal_scores(np.array([5.0, 5.0, 7.0, 9.0]))
    >>> knots, [round(z, 2) for z in normal]
    ((5.0, 7.0, 9.0), [-0.67, 0.32, 1.15])
    """
    distinct, counts = np.unique(numbers, return_counts=True)
    shares = (np.cumsum(counts) - counts / 2) / len(numbers)
    if len(distinct) > N_KNOTS:
        wanted = np.linspace(shares[0], shares[-1], N_KNOTS)
        kept = np.unique(np.clip(np.searchsorted(shares, wanted), 0, len(shares) - 1))
        distinct, shares = distinct[kept], shares[kept]
    return tuple(distinct.tolist()), tuple(ndtri(shares).tolist())


def fit_category(
    name: str, codes: Codes, names: Sequence[str | None], config: ColumnsConfig
) -> CategoryColumn:
    """Learn the categories of a column from the training rows.

    Args:
        name: the column's.
        codes: (N,) positions in ``names``.
        names: categories; ``None`` is a missing cell.
        config: how many categories there may be, and from how many rows on one is kept.

    >>> codes = np.array([0, 1, 0, 2, 1, 0])
    >>> fit_category("fruit", codes, ["fig", None, "pear"], ColumnsConfig()).known
    ('fig', None)
    """
    counts = np.bincount(codes, minlength=len(names))
    order = np.argsort(-counts, kind="stable")
    fill: str | None = None
    if config.missing_category == "most_frequent":
        fill = next((names[i] for i in order.tolist() if names[i] is not None and counts[i]), None)
    own = [i for i in order.tolist() if fill is None or names[i] is not None]
    kept = [i for i in own if counts[i] >= config.min_rows][: config.max_categories]
    return CategoryColumn(name, tuple(names[i] for i in kept), fill)


def is_constant(numbers: Numbers) -> bool:
    """Whether the numbers (N,) tell nothing: all of those that are there are equal, and none is missing."""
    there = numbers[~np.isnan(numbers)]
    return len(there) == 0 or (len(there) == len(numbers) and float(there.min()) == float(there.max()))

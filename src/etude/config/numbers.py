"""The scale of numeric columns beside a text: what turns their numbers into features of one size.

A model keeps it, so that the numbers of new rows are scaled as those of the training part were. Shapes:
N rows, K columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class NumberScale:
    """Mean and deviation of K columns of the training part.

    Attributes:
        columns: (K,) their names.
        mean: (K,) over the training rows that have a number.
        deviation: (K,) the standard deviation of the same rows, 1 where all are equal.
        fill: whether a missing number (NaN) counts as the mean.
    """

    columns: tuple[str, ...]
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    fill: bool

    @classmethod
    def fit(cls, columns: Sequence[str], numbers: NDArray[np.float64], *, fill: bool) -> NumberScale:
        """Measure numbers (N, K); every column needs one at least that is not NaN.

        >>> NumberScale.fit(["age"], np.array([[1.0], [3.0]]), fill=False).mean
        (2.0,)
        """
        mean, deviation = np.nanmean(numbers, axis=0), np.nanstd(numbers, axis=0)
        # Equal numbers may differ from their computed mean by a rounding error, which must not be blown up.
        least, most = np.nanmin(numbers, axis=0), np.nanmax(numbers, axis=0)
        mean, deviation = np.where(least == most, least, mean), np.where(least == most, 1.0, deviation)
        return cls(tuple(columns), tuple(mean.tolist()), tuple(deviation.tolist()), fill)

    @classmethod
    def from_json(cls, described: Mapping[str, Any]) -> NumberScale:
        """Take back what :meth:`to_json` gave."""
        columns, mean, deviation = (tuple(described[name]) for name in ("columns", "mean", "deviation"))
        return cls(columns, mean, deviation, bool(described["fill"]))

    def to_json(self) -> dict[str, Any]:
        """Lists, numbers and a boolean by name, for a file."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    def apply(self, numbers: NDArray[np.float64]) -> NDArray[np.float32]:
        """Standardise numbers (N, K), in float64 before they are rounded; NaN becomes 0 where it is filled.

        >>> NumberScale(("age",), (2.0,), (0.5,), fill=True).apply(np.array([[3.0], [np.nan]])).tolist()
        [[2.0], [0.0]]
        """
        scaled = (numbers - np.asarray(self.mean)) / np.asarray(self.deviation)
        return (np.nan_to_num(scaled, nan=0.0) if self.fill else scaled).astype(np.float32)

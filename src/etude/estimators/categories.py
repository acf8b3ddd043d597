"""The categories of a column as trees take them: numbered from 0 without a gap, and not too many.

Shapes: N rows, J columns of categories.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from etude.estimators.base import Codes, Floats


@dataclass(frozen=True)
class CategoryNumbers:
    """For each of J columns, what becomes of its codes.

    Attributes:
        numbers: J lists by code; -1 is a missing category.
        n_merged: how many categories share a number with others, over all columns.
    """

    numbers: tuple[tuple[int, ...], ...]
    n_merged: int = 0

    @classmethod
    def fit(cls, codes: Codes, most: int) -> Self:
        """Number the codes (N, J) that occur; of more than ``most`` the rarest share the last number.

        Code 0, a missing category, gets no number.

        >>> CategoryNumbers.fit(np.array([[2], [2], [5], [0], [7]]), most=2).numbers
        ((-1, -1, 0, -1, -1, 1, -1, 1),)
        """
        found, merged = [], 0
        for column in codes.T:
            counts = np.bincount(column, minlength=1)
            counts[0] = 0
            present = np.flatnonzero(counts)
            numbers = np.full(len(counts), -1)
            if len(present) > most:
                by_count = present[np.argsort(-counts[present], kind="stable")]
                kept, rare = np.sort(by_count[: most - 1]), by_count[most - 1 :]
                numbers[rare] = most - 1
                merged += len(rare)
                present = kept
            numbers[present] = np.arange(len(present))
            found.append(tuple(numbers.tolist()))
        return cls(tuple(found), merged)

    @classmethod
    def from_json(cls, numbers: Sequence[Any]) -> Self:
        """Take back the lists of ``numbers``."""
        return cls(tuple(tuple(column) for column in numbers))

    def apply(self, codes: Codes) -> Floats:
        """Return the numbers (N, J) of codes, NaN where a category is missing or unknown.

        >>> CategoryNumbers(((-1, 0, 1),)).apply(np.array([[2], [0], [9]])).tolist()
        [[1.0], [nan], [nan]]
        """
        out = np.full(codes.shape, np.nan)
        for place, numbers in enumerate(self.numbers):
            table = np.array([*numbers, -1], dtype=np.float64)
            table[table < 0] = np.nan
            column = codes[:, place]
            known = (column >= 0) & (column < len(numbers))
            out[:, place] = table[np.where(known, column, len(numbers))]
        return out

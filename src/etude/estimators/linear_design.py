"""The columns that logistic regression sees: scaled numbers, indicators, categories one by one, terms.

Shapes: N rows, K numbers, J categories, D columns in all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from etude.estimators.base import Codes, Features, Floats


@dataclass(frozen=True)
class LinearDesign:
    """What becomes of the features.

    Attributes:
        mean, deviation: (K,) of the numbers, weighted; a missing number counts as the mean.
        indicated: the numbers that may be missing, each with a column that says so.
        column, code: (H,) for each column of a category which of the J it belongs to, and its code; code 0,
            a missing category, has a column of its own where training met one.
        n_terms: columns of terms, the last ones.
    """

    mean: Floats
    deviation: Floats
    indicated: Codes
    column: Codes
    code: Codes
    n_terms: Codes

    @classmethod
    def fit(cls, features: Features, weights: Floats) -> Self:
        """Learn from rows whose weights (N,) are 0 or more; a row of weight 2 counts as two rows.

        >>> numbers = np.array([[1.0], [4.0], [np.nan]])
        >>> features = Features(numbers, np.array([[1], [1], [2]]))
        >>> found = LinearDesign.fit(features, np.array([2.0, 1.0, 1.0]))
        >>> found.mean.tolist(), found.indicated.tolist(), found.code.tolist()
        ([2.0], [0], [1, 2])
        """
        counted = weights > 0
        numbers, categories, found = features.numbers[counted], features.categories[counted], weights[counted]
        there = ~np.isnan(numbers)
        share = np.where(there, found[:, None], 0.0)
        total = np.maximum(share.sum(axis=0), np.finfo(float).tiny)
        mean = (np.where(there, numbers, 0.0) * share).sum(axis=0) / total
        variance = (np.where(there, numbers - mean, 0.0) ** 2 * share).sum(axis=0) / total
        deviation = np.sqrt(variance)
        # Equal numbers may differ from their computed mean by a rounding error, which must not be blown up.
        deviation[deviation <= 1e-10 * np.maximum(np.abs(mean), 1.0)] = 1.0
        codes = [np.unique(column) for column in categories.T]
        return cls(
            mean,
            deviation,
            np.flatnonzero(~there.all(axis=0)),
            np.repeat(np.arange(len(codes)), [len(found) for found in codes]).astype(np.int64),
            np.concatenate(codes) if codes else np.zeros(0, dtype=np.int64),
            np.array([0 if features.terms is None else features.terms.shape[1]]),
        )

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Take back what :meth:`arrays` gave."""
        return cls(**{part.name: arrays[part.name] for part in fields(cls)})

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays by name, for a file."""
        return {part.name: np.ascontiguousarray(getattr(self, part.name)) for part in fields(self)}

    @property
    def n_columns(self) -> int:
        """D."""
        return len(self.mean) + len(self.indicated) + len(self.code) + int(self.n_terms[0])

    def apply(self, features: Features) -> Any:
        """Return the columns (N, D) as a SciPy matrix in CSR form, float64."""
        from scipy import sparse  # type: ignore[import-untyped]

        missing = np.isnan(features.numbers)
        scaled = np.where(missing, 0.0, (features.numbers - self.mean) / self.deviation)
        blocks = [
            sparse.csr_matrix(scaled),
            sparse.csr_matrix(missing[:, self.indicated].astype(np.float64)),
            self._one_hot(features.categories),
        ]
        if features.terms is not None:
            blocks.append(features.terms.astype(np.float64))
        return sparse.hstack(blocks, format="csr", dtype=np.float64)

    def _one_hot(self, categories: Codes) -> Any:
        from scipy import sparse

        rows, places = [], []
        for number in range(categories.shape[1]):
            first, known = np.searchsorted(self.column, number), self.code[self.column == number]
            place = np.searchsorted(known, categories[:, number]).clip(0, max(len(known) - 1, 0))
            hit = np.flatnonzero(known[place] == categories[:, number]) if len(known) else np.zeros(0, int)
            rows.append(hit)
            places.append(first + place[hit])
        at = (np.concatenate(rows), np.concatenate(places)) if rows else (np.zeros(0, int), np.zeros(0, int))
        shape = (len(categories), len(self.code))
        return sparse.csr_matrix((np.ones(len(at[0])), at), shape=shape)

    def by_feature(self, columns: Floats) -> tuple[Floats, Floats]:
        """Add up what columns (D,) hold by numbers (K,) and by categories (J,); terms are left out."""
        n_numbers, n_indicated = len(self.mean), len(self.indicated)
        numbers = columns[:n_numbers].copy()
        numbers[self.indicated] += columns[n_numbers : n_numbers + n_indicated]
        hot = columns[n_numbers + n_indicated :][: len(self.code)]
        n_categories = int(self.column.max()) + 1 if len(self.column) else 0
        found: Floats = np.bincount(self.column, weights=hot, minlength=n_categories).astype(np.float64)
        return numbers, found

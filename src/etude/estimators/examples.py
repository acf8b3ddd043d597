"""Rows as estimators take them: numbers as they are, categories, and the terms of texts.

Shapes: N rows, B rows of a batch, K numbers, J categories, D terms, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from etude.estimators.base import Features, Floats, Sample
from etude.evaluation.tfidf import Tfidf

TERMS = ("term_offsets", "term_columns", "term_values")
"""The inputs that hold a CSR matrix (B, D): where each row begins, the columns, the values."""


class EstimatorExamples:
    """N prepared rows.

    Attributes:
        raw_numbers: (N, K) float64, NaN where a number is missing.
        categories: (N, J) int64 codes, 0 where one is not known.
        terms: (N, D) a SciPy matrix in CSR form, or none.
        numbers: (N, L) float32, the numbers scaled and filled, for models that compare; or none.
        targets: (N, C) float32.
        weights: (N,) float32.
        lengths: (N,) ones.
        number_names, category_names: what the K and the J columns are called.
    """

    def __init__(
        self,
        raw_numbers: Floats,
        categories: Tensor,
        targets: Tensor,
        weights: Tensor,
        *,
        terms: Any = None,
        numbers: Tensor | None = None,
        number_names: Sequence[str] = (),
        category_names: Sequence[str] = (),
    ) -> None:
        self.raw_numbers, self.categories, self.terms = raw_numbers, categories, terms
        self.targets, self.weights, self.numbers = targets, weights, numbers
        self.lengths = np.ones(len(weights), dtype=np.int64)
        self.number_names, self.category_names = tuple(number_names), tuple(category_names)

    def __len__(self) -> int:
        return len(self.weights)

    def inputs(self, rows: NDArray[np.int64]) -> dict[str, Tensor]:
        """Return the inputs of some rows: ``raw_numbers`` (B, K), ``categories`` (B, J) and the terms."""
        found = {
            "raw_numbers": torch.from_numpy(self.raw_numbers[rows]),
            "categories": self.categories[torch.from_numpy(rows)],
        }
        if self.terms is None:
            return found
        chosen = self.terms[rows]
        parts = (chosen.indptr.astype(np.int64), chosen.indices.astype(np.int64), chosen.data)
        return found | {name: torch.from_numpy(part) for name, part in zip(TERMS, parts, strict=True)}

    def sample(self) -> Sample:
        """All rows, as an estimator is fitted to them."""
        features = Features(self.raw_numbers, self.categories.numpy(), self.terms)
        targets, weights = (part.numpy().astype(np.float64) for part in (self.targets, self.weights))
        return Sample(features, targets, weights)


def terms_of(fitted: Sequence[Tfidf], columns: Sequence[Sequence[str]]) -> Any:
    """Return the terms (N, D) of columns of texts side by side, or none where there is no column."""
    if not fitted:
        return None
    from scipy import sparse  # type: ignore[import-untyped]

    blocks = [one(texts) for one, texts in zip(fitted, columns, strict=True)]
    return sparse.hstack(blocks, format="csr", dtype=np.float32)

"""What the engine needs of a part of the data: rows that turn into inputs, and their targets."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


class Examples(Protocol):
    """N prepared examples.

    Attributes:
        targets: (N, C) float32.
        weights: (N,) float32.
        lengths: (N,) int64, tokens of each row (ones where inputs have one size).
    """

    targets: Tensor
    weights: Tensor
    lengths: NDArray[np.int64]

    def __len__(self) -> int: ...

    def inputs(self, rows: NDArray[np.int64]) -> dict[str, Tensor]:
        """Return the inputs of some rows, padded to the longest of them."""

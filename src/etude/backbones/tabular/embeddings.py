"""From numbers and codes to vectors: a vector for each column.

Shapes: B rows, K columns of numbers, M columns of categories, D width of a vector.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F


def spread(tensor: Tensor, d: int) -> None:
    """Draw a tensor's first numbers uniformly from ``-1 / sqrt(d)`` to ``1 / sqrt(d)``, in place."""
    nn.init.uniform_(tensor, -(d**-0.5), d**-0.5)


class LinearEmbedding(nn.Module):
    """``x_j W_j + b_j``: the feature tokenizer of numbers.

    Gorishniy et al. 2021, arXiv 2106.11959, section 3.3.
    """

    def __init__(self, n_columns: int, d: int, *, activation: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_columns, d))
        self.bias = nn.Parameter(torch.empty(n_columns, d))
        self.activation = activation
        for value in (self.weight, self.bias):
            spread(value, d)

    def forward(self, numbers: Tensor) -> Tensor:
        """Map numbers (B, K) to vectors (B, K, D)."""
        vectors = torch.addcmul(self.bias, numbers[..., None], self.weight)
        return F.relu(vectors) if self.activation else vectors


class ColumnwiseLinear(nn.Module):
    """A linear layer of its own for each column, and ReLU behind it where there is an activation."""

    def __init__(self, n_columns: int, d_in: int, d: int, *, activation: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_columns, d_in, d))
        self.bias = nn.Parameter(torch.empty(n_columns, d))
        self.activation = activation
        for value in (self.weight, self.bias):
            spread(value, d_in)

    def forward(self, columns: Tensor) -> Tensor:
        """Map (B, K, D_in) to (B, K, D)."""
        vectors = (columns.transpose(0, 1) @ self.weight).transpose(0, 1) + self.bias
        return F.relu(vectors) if self.activation else vectors


class PeriodicEmbedding(nn.Module):
    """``ReLU(Linear([sin v, cos v]))`` with ``v = 2 pi c x``, the frequencies c being trained: "PLR".

    Gorishniy et al. 2022, arXiv 2203.05556, section 3.3, equation 4.
    """

    def __init__(
        self, n_columns: int, d: int, n_frequencies: int, frequency_scale: float, *, activation: bool = True
    ) -> None:
        super().__init__()
        self.frequencies = nn.Parameter(torch.empty(n_columns, n_frequencies))
        self.linear = ColumnwiseLinear(n_columns, 2 * n_frequencies, d, activation=activation)
        # As in the authors' package, no frequency is drawn from the far tails.
        nn.init.trunc_normal_(
            self.frequencies, 0.0, frequency_scale, a=-3 * frequency_scale, b=3 * frequency_scale
        )

    def forward(self, numbers: Tensor) -> Tensor:
        """Map numbers (B, K) to vectors (B, K, D)."""
        angles = 2 * math.pi * self.frequencies * numbers[..., None]
        vectors: Tensor = self.linear(torch.cat([angles.cos(), angles.sin()], dim=-1))
        return vectors


class PiecewiseLinearEmbedding(nn.Module):
    """A number as the share of each bin that lies below it, and a linear layer: "Q-LR".

    Gorishniy et al. 2022, arXiv 2203.05556, section 3.2, equations 1 and 2; bins are quantiles of the
    training rows (section 3.2.1).
    """

    weight: Tensor
    bias: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, n_columns: int, d: int, n_bins: int, *, activation: bool = True) -> None:
        super().__init__()
        for name in ("weight", "bias", "low", "high"):
            self.register_buffer(name, torch.zeros(n_columns, n_bins))
        self.linear = ColumnwiseLinear(n_columns, n_bins, d, activation=activation)

    def set_bins(self, edges: Sequence[NDArray[Any]]) -> None:
        """Take the edges of each column's bins, at most as many bins as there is room for."""
        for k, edge in enumerate(edges):
            n = len(edge) - 1
            widths = torch.from_numpy(np.diff(edge))
            self.weight[k, :n] = (1.0 / widths).float()
            self.bias[k, :n] = (-torch.from_numpy(edge[:-1]) / widths).float()
            self.high[k, :n] = 1.0
            # Outside of all bins the first and the last go on in a straight line.
            self.low[k, 0], self.high[k, n - 1] = -math.inf, math.inf

    def encode(self, numbers: Tensor) -> Tensor:
        """Map numbers (B, K) to the shares (B, K, T) of T bins; what a column lacks of them is 0."""
        shares = torch.addcmul(self.bias, numbers[..., None], self.weight)
        return torch.maximum(torch.minimum(shares, self.high), self.low)

    def forward(self, numbers: Tensor) -> Tensor:
        """Map numbers (B, K) to vectors (B, K, D)."""
        vectors: Tensor = self.linear(self.encode(numbers))
        return vectors


def quantile_bins(numbers: NDArray[np.float32], n_bins: int) -> list[NDArray[np.float64]]:
    """Return the edges of at most ``n_bins`` bins that hold equally many of the numbers (N, K) each.

    Equal edges count once; a column of one number has a bin of width 1 around it.

    >>> quantile_bins(np.array([[0.0], [1.0], [1.0], [3.0]], dtype=np.float32), 2)
    [array([0., 1., 3.])]
    """
    edges = np.quantile(numbers.astype(np.float64), np.linspace(0.0, 1.0, n_bins + 1), axis=0)
    distinct = [np.unique(column) for column in edges.T]
    return [e if len(e) > 1 else np.array([e[0] - 0.5, e[0] + 0.5]) for e in distinct]


class CategoryEmbedding(nn.Module):
    """A vector for each code of each column, in one table; unseen codes have zeros at first.

    Gorishniy et al. 2021, arXiv 2106.11959, section 3.3: ``e_j W_j + b_j`` with a one-hot ``e_j``.

    NOTE[DIFF]: code 0 stands for rare and unseen categories and starts from zeros, so that a category that
    training has not seen adds no noise.
    """

    offsets: Tensor

    def __init__(self, cardinalities: Sequence[int], d: int, *, bias: bool) -> None:
        super().__init__()
        first = np.concatenate([[0], np.cumsum(cardinalities)[:-1]]).astype(np.int64)
        self.register_buffer("offsets", torch.from_numpy(first), persistent=False)
        self.table = nn.Embedding(int(sum(cardinalities)), d)
        self.bias = nn.Parameter(torch.empty(len(cardinalities), d)) if bias else None
        spread(self.table.weight, d)
        with torch.no_grad():
            self.table.weight[self.offsets] = 0.0
        if self.bias is not None:
            spread(self.bias, d)

    def forward(self, categories: Tensor) -> Tensor:
        """Map codes (B, M) to vectors (B, M, D)."""
        vectors: Tensor = self.table(categories + self.offsets)
        return vectors if self.bias is None else vectors + self.bias

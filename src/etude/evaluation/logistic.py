"""Logistic regression for all labels at once, on dense features or on sparse counts of words.

One label for each example: min over W, b of Σ_i w_i CE(softmax(x_i W + b), y_i) + ||W||² / (2 C); any subset
of labels: the same with the sum of binary cross-entropies of sigmoids, which is one-vs-rest. That is
scikit-learn's problem with its C, but that two classes have two columns, whose penalty is half as strong.
It is solved for all labels in one matrix product an iteration, and with soft targets as they are: on 20,000
texts of 28 labels ten times as fast as one scikit-learn model for each label.

Shapes: N examples, D features, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

Design = Any
"""Features (N, D): a float32 array, or a SciPy matrix in CSR form."""

LEAST_SHARE = 1e-7
"""The share that a label without examples, or without counter-examples, begins with, and all but keeps."""


@dataclass(frozen=True, slots=True)
class Logistic:
    """A fitted model.

    Attributes:
        weight: (D, C).
        bias: (C,).
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]

    def logits(self, design: Design) -> NDArray[np.float32]:
        """Map features (N, D) to logits (N, C)."""
        return np.asarray(design @ self.weight + self.bias, dtype=np.float32)


def fit_logistic(
    design: Design,
    targets: NDArray[np.float32],
    weights: NDArray[np.float32],
    *,
    strength: float,
    multilabel: bool,
    iterations: int = 50,
) -> Logistic:
    """Fit by L-BFGS, from the labels' shares on.

    Args:
        design: (N, D).
        targets: (N, C) in [0, 1]; rows sum to one unless ``multilabel``.
        weights: (N,) 0 or more, not all 0.
        strength: scikit-learn's C.
        multilabel: one sigmoid for each label instead of a softmax.
        iterations: at most so many; few of them act as a penalty of their own.

    >>> x = np.array([[0.0], [1.0], [2.0], [3.0]], dtype=np.float32)
    >>> y = np.array([[0.0], [0.0], [1.0], [1.0]], dtype=np.float32)
    >>> model = fit_logistic(x, y, np.ones(4, np.float32), strength=1.0, multilabel=True)
    >>> [round(float(z), 2) for z in model.logits(x)[:, 0]]
    [-1.44, -0.48, 0.48, 1.44]
    """
    total = float(weights.sum())
    shares = torch.from_numpy(weights / total)[:, None]
    wanted = torch.from_numpy(targets)
    transposed = design.T if isinstance(design, np.ndarray) else design.T.tocsr()
    penalty = 1.0 / (strength * total)
    # The last row is the bias, which has no penalty.
    solution = torch.zeros(design.shape[1] + 1, targets.shape[1])
    solution[-1] = _first_bias(shares, wanted, multilabel)
    optimizer = torch.optim.LBFGS(
        [solution], max_iter=iterations, tolerance_grad=1e-6, history_size=10, line_search_fn="strong_wolfe"
    )  # fmt: skip

    def loss() -> torch.Tensor:
        weight, bias = solution[:-1], solution[-1]
        logits = torch.from_numpy(design @ weight.numpy()) + bias
        if multilabel:
            terms = F.softplus(logits) - wanted * logits
            slopes = shares * (torch.sigmoid(logits) - wanted)
        else:
            log_p = logits.log_softmax(dim=1)
            terms = -wanted * log_p
            slopes = shares * (log_p.exp() * wanted.sum(dim=1, keepdim=True) - wanted)
        solution.grad = torch.empty_like(solution)
        solution.grad[:-1] = torch.from_numpy(transposed @ slopes.numpy()) + penalty * weight
        solution.grad[-1] = slopes.sum(dim=0)
        return (shares * terms).sum() + penalty / 2 * weight.square().sum()

    optimizer.step(loss)
    return Logistic(solution[:-1].numpy(), solution[-1].numpy())


def _first_bias(shares: torch.Tensor, wanted: torch.Tensor, multilabel: bool) -> torch.Tensor:
    """The bias (C,) that gives every example the labels' shares, which is the best without features."""
    share = (shares * wanted).sum(dim=0).clamp(LEAST_SHARE, 1.0 - LEAST_SHARE)
    return share.logit() if multilabel else share.log()

"""Gradient-boosted trees over a few columns of numbers: scikit-learn's histogram trees, set up.

Shapes: n rows to fit on, N rows of a part, K numbers, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float32]

MOST_TREES = 1_000
"""Trees over all classes; each class gets at least ten, and at most a hundred."""

NEVER = 20.0
"""How far below all others the logit of a class without a training row stands."""


def trees_for_classes(
    train: Numbers,
    classes: NDArray[np.int64],
    weights: NDArray[np.float32],
    others: Sequence[Numbers],
    n_classes: int,
    seed: int,
    *,
    n_problems: int = 1,
) -> list[NDArray[np.float32]]:
    """Fit trees to one class of C for each row, and return the logits (N, C) of other rows.

    Args:
        train: (n, K).
        classes: (n,) from 0 to C - 1; a class that does not occur gets a lower logit than all others.
        weights: (n,).
        others: (N, K) each.
        n_classes: C.
        seed: of the trees.
        n_problems: how often this is called for one task; the trees are shared out.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    present = np.unique(classes)
    model = HistGradientBoostingClassifier(
        max_iter=min(100, max(MOST_TREES // max(n_classes, n_problems), 10)),
        min_samples_leaf=max(1, min(20, len(classes) // 20)),
        early_stopping=False,  # its inner split fails on a class of one row
        random_state=seed % 2**32,
    )
    if len(present) > 1:
        model.fit(train, classes, sample_weight=weights)
    found = []
    for numbers in others:
        scores = model.decision_function(numbers) if len(present) > 1 else np.zeros((len(numbers), 1))
        if scores.ndim == 1:  # two classes: the log-odds of the second
            scores = np.stack([-scores / 2, scores / 2], axis=1)
        logits = np.repeat(scores.min(axis=1, keepdims=True) - NEVER, n_classes, axis=1)
        logits[:, present] = scores
        found.append(logits.astype(np.float32))
    return found


def trees_for_labels(
    train: Numbers,
    truth: NDArray[np.bool_],
    weights: NDArray[np.float32],
    others: Sequence[Numbers],
    seed: int,
) -> list[NDArray[np.float32]]:
    """Fit trees for each of C labels (n, C), and return the log-odds (N, C) of other rows."""
    columns = [
        trees_for_classes(train, holds.astype(np.int64), weights, others, 2, seed, n_problems=truth.shape[1])
        for holds in truth.T
    ]
    return [
        np.stack([column[part][:, 1] - column[part][:, 0] for column in columns], axis=1)
        for part in range(len(others))
    ]

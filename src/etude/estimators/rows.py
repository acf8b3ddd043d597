"""From targets to the rows that a library fits: one class or one yes-or-no for each, with a weight.

A soft target counts as several rows: the loss is linear in the targets, so that a row with shares t of its
classes is the same as one row for each class, of weight t. Shapes: N rows, n of the fit, C classes.
"""

from __future__ import annotations

import numpy as np

from etude.errors import DataError
from etude.estimators.base import Codes, Floats

NEVER = 20.0
"""How far below all others the logit of a class without a training row stands."""


def rows_of_classes(
    targets: Floats, weights: Floats, class_weights: Floats | None = None
) -> tuple[Codes, Codes, Floats]:
    """Return rows (n,), their classes (n,) and weights (n,) for targets (N, C) whose rows sum to one.

    Rows without a weight or without a label are left out.

    Raises:
        DataError: no row is left.

    >>> targets = np.array([[1.0, 0.0], [0.25, 0.75], [0.0, 1.0]])
    >>> [part.tolist() for part in rows_of_classes(targets, np.array([2.0, 1.0, 0.0]))]
    [[0, 1, 1], [0, 0, 1], [2.0, 0.25, 0.75]]
    """
    shares = targets * weights[:, None]
    if class_weights is not None:
        shares = shares * class_weights
    rows, classes = np.nonzero(shares)
    if len(rows) == 0:
        raise DataError("no row to fit has both a label and a weight above 0; check the labels and weights")
    return rows, classes, shares[rows, classes]


def spread(raw: Floats, present: Codes, n_classes: int) -> Floats:
    """Return logits (N, C) from those of the classes that training saw.

    Args:
        raw: (N, P) for P classes; (N, 1) or (N,) the log-odds of the second of two.
        present: (P,) their positions among the C.
        n_classes: C; a class that is not present gets a lower logit than all others.

    >>> spread(np.array([[3.0]]), np.array([0, 2]), 3).tolist()
    [[-1.5, -21.5, 1.5]]
    """
    raw = raw.reshape(len(raw), -1)
    if raw.shape[1] == 1 and len(present) == 2:
        raw = np.concatenate([-raw / 2, raw / 2], axis=1)
    least = raw.min(axis=1, keepdims=True) if raw.size else raw[:, :1]
    logits = np.repeat(least - NEVER, n_classes, axis=1)
    logits[:, present] = raw
    return logits

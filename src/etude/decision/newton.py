"""Newton's method with backtracking, for smooth convex functions of a few numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Objective = Callable[[Vector], tuple[float, Vector, NDArray[Any]]]
"""x (K,) -> value, gradient (K,), Hessian (K, K)."""

_SETTLED = 1e-10
"""A step that promises less than this, relative to the value, is the last one."""

_RIDGE = 1e-12
"""Keeps a Hessian solvable that is singular because a score is the same in all rows."""


def minimise(objective: Objective, start: Vector, max_steps: int = 100) -> Vector:
    """Return where a convex function is least.

    Args:
        objective: gives value, gradient and Hessian.
        start: (K,) the first guess.
        max_steps: steps at most; usually five to ten are enough.

    >>> minimise(lambda x: (float((x - 3) ** 2 @ np.ones(1)), 2 * (x - 3), 2 * np.eye(1)), np.zeros(1))
    array([3.])
    """
    x = start
    value, gradient, hessian = objective(x)
    for _ in range(max_steps):
        step = -np.linalg.solve(hessian + _RIDGE * np.eye(len(x)), gradient)
        promised = -float(gradient @ step) / 2.0
        length = 1.0
        while True:
            moved, moved_gradient, moved_hessian = objective(x + length * step)
            if moved <= value - 1e-4 * length * promised or length < 1e-8:
                break
            length /= 2.0
        if moved > value:  # nothing but rounding is left
            return x
        x, value, gradient, hessian = x + length * step, moved, moved_gradient, moved_hessian
        if promised <= _SETTLED * (1.0 + abs(value)):
            return x
    return x

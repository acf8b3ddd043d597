"""What an ensemble learns from held-out rows: a weight for each member, quantiles, or a stacked regression.

Shapes: M members, N rows, C labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize  # type: ignore[import-untyped]

from etude.backbones.combined import SMALLEST, Method, combine
from etude.core.task import Task
from etude.decision.folds import stratified_folds
from etude.evaluation.scored import true_labels

Tensors = dict[str, NDArray[np.float32]]
Logits = NDArray[np.float32]

QUANTILES = 101
"""Points of a member's distribution of scores that ``ranks`` keeps."""

FOLDS = 5
STRENGTHS = (0.001, 0.01, 0.1, 1.0)
"""Inverse strengths of the penalty of stacking, of which the held-out rows choose one."""


def combined(logits: Logits, method: Method, tensors: Mapping[str, NDArray[Any]], task: Task) -> Logits:
    """Return the ensemble's logits (N, C) for its members' (M, N, C)."""
    given = {name: torch.from_numpy(np.asarray(value, dtype=np.float32)) for name, value in tensors.items()}
    several = task.kind == "multilabel"
    found: Logits = combine(torch.from_numpy(logits), method, given, several=several).numpy()
    return found


def log_loss(task: Task, logits: NDArray[Any], targets: NDArray[Any]) -> float:
    """The mean negative log-likelihood of the targets (N, C) under logits (N, C).

    >>> from etude.core.task import Multiclass
    >>> round(log_loss(Multiclass(["a", "b"]), np.zeros((1, 2)), np.array([[1.0, 0.0]])), 4)
    0.6931
    """
    z = logits.astype(np.float64)
    if task.kind == "multilabel":
        terms = np.logaddexp(0, z) - targets * z
        return float(terms.sum(axis=1).mean())
    log_p = z - np.logaddexp.reduce(z, axis=1, keepdims=True)
    return float(-(targets * log_p).sum(axis=1).mean())


def fit(
    task: Task, method: Method, logits: Logits, targets: NDArray[np.float32], *, fitted: bool, seed: int
) -> Tensors:
    """Return what joins the members by a method.

    Args:
        task: the task.
        method: how they are joined.
        logits: (M, N, C) of held-out rows; N may be 0 where nothing has to be fitted.
        targets: (N, C).
        fitted: whether members get weights of their own, that fit the rows best, or equal ones.
        seed: of the folds that choose the penalty of stacking.
    """
    m = len(logits)
    if method == "stacking":
        return fit_stacking(task, logits, targets, seed=seed)
    tensors: Tensors = {"weights": np.full(m, 1 / m, dtype=np.float32)}
    if method == "ranks":
        tensors["quantiles"] = quantiles_of(logits)
    if fitted and m > 1:
        tensors["weights"] = fit_weights(task, method, logits, targets, tensors)
    return tensors


def quantiles_of(logits: Logits) -> NDArray[np.float32]:
    """Return the quantiles (M, Q, C) of the members' scores over the rows."""
    found = np.quantile(logits.astype(np.float64), np.linspace(0, 1, QUANTILES), axis=1)
    return np.ascontiguousarray(np.swapaxes(found, 0, 1)).astype(np.float32)


def fit_weights(
    task: Task,
    method: Method,
    logits: Logits,
    targets: NDArray[np.float32],
    tensors: Mapping[str, NDArray[Any]],
) -> NDArray[np.float32]:
    """Return the weights (M,), none negative and 1 in sum, under which the targets are likeliest.

    For probabilities and logits the problem is convex, so that there is one best answer.
    """
    m = len(logits)

    def loss(weights: NDArray[np.float64]) -> float:
        given = {**tensors, "weights": weights.astype(np.float32)}
        return log_loss(task, combined(logits, method, given, task), targets)

    def gradient(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        given = {k: torch.from_numpy(np.asarray(v, dtype=np.float32)).double() for k, v in tensors.items()}
        w = torch.from_numpy(weights).clone().requires_grad_(True)
        z = combine(
            torch.from_numpy(logits).double(),
            method,
            {**given, "weights": w},
            several=task.kind == "multilabel",
        )
        t = torch.from_numpy(targets).double()
        if task.kind == "multilabel":
            value = torch.nn.functional.binary_cross_entropy_with_logits(z, t, reduction="none").sum(1).mean()
        else:
            value = -(t * z.log_softmax(-1)).sum(1).mean()
        found: NDArray[np.float64] = torch.autograd.grad(value, w)[0].numpy()
        return found

    start = np.full(m, 1 / m)
    solved = minimize(
        loss,
        start,
        jac=gradient,
        method="SLSQP",
        bounds=[(0.0, 1.0)] * m,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: np.ones_like(w)},
        options={"maxiter": 200, "ftol": 1e-9},
    )
    best = np.clip(solved.x, 0.0, 1.0) if np.isfinite(solved.x).all() else start
    best = best / best.sum()
    found = best if loss(best) <= loss(start) else start
    return found.astype(np.float32)


def fit_stacking(task: Task, logits: Logits, targets: NDArray[np.float32], *, seed: int) -> Tensors:
    """Return matrix (C, M * C) and bias (C,) of a logistic regression on the members' logits.

    Of several labels each is regressed on its own M logits. The penalty is the one under which rows of other
    folds are likeliest.
    """
    truth = true_labels(task, targets)
    folds = stratified_folds(truth, FOLDS, seed)

    def held_out_loss(strength: float) -> float:
        losses = []
        for fold in range(int(folds.max()) + 1):
            held = folds == fold
            tensors = _regress(task, logits[:, ~held], truth[~held], strength)
            z = combined(logits[:, held], "stacking", tensors, task)
            losses.append(log_loss(task, z, truth[held]) * int(held.sum()))
        return sum(losses)

    best = min(STRENGTHS, key=held_out_loss)
    return _regress(task, logits, truth, best)


def _regress(task: Task, logits: Logits, truth: NDArray[np.bool_], strength: float) -> Tensors:
    from sklearn.linear_model import LogisticRegression

    m, n, c = logits.shape
    matrix, bias = np.zeros((c, m * c), dtype=np.float32), np.zeros(c, dtype=np.float32)
    flat = np.swapaxes(logits, 0, 1).reshape(n, m * c).astype(np.float64)
    if task.kind == "multilabel":
        for label in range(c):
            own = [member * c + label for member in range(m)]
            y = truth[:, label]
            if y.all() or not y.any():  # nothing to learn: the members' mean stands
                matrix[label, own] = 1 / m
                continue
            model = LogisticRegression(C=strength, max_iter=500).fit(flat[:, own], y)
            matrix[label, own], bias[label] = model.coef_[0], model.intercept_[0]
        return {"matrix": matrix, "bias": bias}
    known = truth.any(axis=1)
    y = truth[known].argmax(axis=1)
    present = np.unique(y)
    bias[:] = -1 / SMALLEST**0.25  # a label without a held-out row is never likeliest
    if len(present) < 2:
        bias[present] = 0.0
        return {"matrix": matrix, "bias": bias}
    model = LogisticRegression(C=strength, max_iter=500).fit(flat[known], y)
    if len(present) == 2:
        matrix[present[1]], bias[present] = model.coef_[0], [0.0, float(model.intercept_[0])]
    else:
        matrix[present], bias[present] = model.coef_, model.intercept_
    return {"matrix": matrix, "bias": bias}


def cross_fitted(
    task: Task, method: Method, logits: Logits, targets: NDArray[np.float32], *, fitted: bool, seed: int
) -> Logits:
    """Return the ensemble's logits (N, C), each row's by what was fitted on rows of other folds."""
    if method in ("probabilities", "logits") and not fitted:
        return combined(logits, method, fit(task, method, logits, targets, fitted=False, seed=seed), task)
    folds = stratified_folds(true_labels(task, targets), FOLDS, seed)
    found = np.empty(targets.shape, dtype=np.float32)
    for fold in range(int(folds.max()) + 1):
        held = folds == fold
        tensors = fit(task, method, logits[:, ~held], targets[~held], fitted=fitted, seed=seed)
        found[held] = combined(logits[:, held], method, tensors, task)
    return found

"""Calibration: from logits to probabilities that come true as often as they say.

With logits z (N, C), each kind is fitted by the log loss of held-out rows:

* *temperature*: softmax(z / T), one T (Guo et al. 2017, 1706.04599, section 4.2); of a multilabel task
  σ(z_c / T_c), one T for each label.
* *vector*: softmax(a * z + b), a and b (C,) (Guo et al. 2017); of a multilabel task σ(a_c z_c + b_c).
* *Platt*: σ(a z + b), with targets a little short of 0 and 1 (Platt 1999; the arithmetic is that of Lin, Lin
  & Weng 2007).
* *isotonic*: the increasing step function nearest to the targets (Zadrozny & Elkan 2002), linear between its
  steps. No probability comes closer to 0 or 1 than 1 / (rows + 2).

A binary task is calibrated on the difference of its two logits. Platt's and the isotonic form of a multiclass
task treat each class against the rest, on the log-odds of its probability, and are normalised (Zadrozny &
Elkan 2002).

NOTE[DIFF]: Platt's targets are used of binary and multilabel tasks alone: against the rest each of C classes
would get a little of every row, which is C times too much.

NOTE[DIFF]: the papers fit each problem alone. Here parameters are drawn to a centre by a Gaussian prior:
temperatures to 1, those of a label to the fit of all labels pooled, those of vector scaling to the
temperature. Many rows outweigh it; it keeps rare labels sensible and separable ones finite. An isotonic
function cannot be drawn anywhere, so that labels with fewer than 30 rows on a side share one of all labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from etude.core.task import Task
from etude.decision.newton import Vector, minimise
from etude.evaluation.reliability import log_losses

Kind = Literal["none", "temperature", "vector", "platt", "isotonic"]
Matrix = NDArray[np.float64]

CANDIDATES: Mapping[str, tuple[Kind, ...]] = {
    "binary": ("temperature", "platt", "isotonic"),
    "multiclass": ("temperature", "vector"),
    "multilabel": ("temperature", "vector", "isotonic"),
}
"""What ``auto`` tries beside none."""

PRIOR = 1.0
"""The precision of the prior around the centre: its standard deviation is 1."""

MOST_ROWS = 20_000
"""Rows that ``auto`` compares on at most, spread evenly over all; what it chooses is fitted on all."""

MOST_FOR_VECTOR = 200
"""Classes beyond which ``auto`` does not try vector scaling, whose fit takes time with their square."""

RARE = 30
"""Rows that a side of a label needs for an isotonic function of its own."""

_STEEPEST, _FLATTEST = 100.0, 0.01
"""The bounds of 1 / T: a model that is always right is not made surer without end, nor one turned round."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """A fitted map from logits (N, C) to probabilities (N, C).

    Attributes:
        kind: which of them.
        scale: (C,), or (1,) for all classes: what the logits are multiplied by; empty where nothing is.
        bias: (C,) or (1,): what is added then; empty where nothing is.
        knots: of each label the logits (K,) and probabilities (K,) of an isotonic function.
    """

    kind: Kind
    scale: Vector
    bias: Vector
    knots: tuple[tuple[Vector, Vector], ...] = ()

    def probabilities(self, task: Task, logits: NDArray[Any]) -> NDArray[np.float32]:
        """Return the probabilities (N, C)."""
        if self.kind == "none":
            plain: NDArray[np.float32] = task.probabilities(
                torch.from_numpy(np.ascontiguousarray(logits))
            ).numpy()
            return plain
        z = scores(task, self.kind, logits)
        if self.kind == "isotonic":
            columns = [np.interp(column, x, y) for column, (x, y) in zip(z.T, self.knots, strict=True)]
            return _joined(task, np.stack(columns, axis=1))
        z = z * self.scale + self.bias
        if task.kind == "multiclass" and self.kind != "platt":
            return _softmax(z).astype(np.float32)
        return _joined(task, _sigmoid(z))

    def describe(self, task: Task) -> str:
        """Return what it does in one sentence."""
        if self.kind == "none":
            return "Probabilities are those of the network, uncalibrated."
        if self.kind == "temperature":
            low, high = 1.0 / self.scale.max(), 1.0 / self.scale.min()
            if len(self.scale) == 1:
                return f"Probabilities are calibrated by temperature scaling with T = {low:.3g}."
            return (
                "Probabilities are calibrated by temperature scaling with a T for each label, "
                f"from {low:.3g} to {high:.3g}."
            )
        names = {"vector": "vector scaling", "platt": "Platt scaling", "isotonic": "isotonic regression"}
        each = "" if task.kind == "binary" else " of each label"
        return f"Probabilities are calibrated by {names[self.kind]}{each}."

    def to_json(self) -> dict[str, Any]:
        """Return plain numbers and names, from which it can be made again bit for bit."""
        return {
            "kind": self.kind,
            "scale": self.scale.tolist(),
            "bias": self.bias.tolist(),
            "knots": [[x.tolist(), y.tolist()] for x, y in self.knots],
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Calibration:
        """Undo :meth:`to_json`."""
        knots = tuple(
            (np.array(x, dtype=np.float64), np.array(y, dtype=np.float64)) for x, y in content["knots"]
        )
        scale, bias = (np.array(content[name], dtype=np.float64) for name in ("scale", "bias"))
        return cls(content["kind"], scale, bias, knots)


NONE = Calibration("none", np.zeros(0), np.zeros(0))
"""The probabilities as the network gives them."""


def fit_calibration(task: Task, kind: Kind, logits: NDArray[Any], targets: NDArray[Any]) -> Calibration:
    """Return the calibration of one kind.

    Args:
        task: the task.
        kind: what to fit.
        logits: (N, C), finite, at least one row.
        targets: (N, C) from 0 to 1; of a single-label task each row sums to one.
    """
    if kind == "none":
        return NONE
    z, y = scores(task, kind, logits), np.asarray(targets, dtype=np.float64)
    if task.kind == "binary":
        y = y[:, 1:]
    if kind == "isotonic":
        return Calibration(kind, np.zeros(0), np.zeros(0), _fit_isotonic(z, y))
    if task.kind == "multiclass" and kind != "platt":
        inverse = fit_softmax_temperature(z, y)
        if kind == "temperature":
            return Calibration(kind, np.array([inverse]), np.zeros(1))
        return Calibration(kind, *_fit_vector(z, y, inverse))
    if kind == "platt" and task.kind != "multiclass":
        return Calibration(kind, *_fit_sigmoids(z, platt_targets(y), bias=True))
    return Calibration(kind, *_fit_sigmoids(z, y, bias=kind != "temperature"))


def choose_calibration(
    task: Task, logits: NDArray[Any], targets: NDArray[Any], folds: NDArray[np.int64]
) -> Kind:
    """Return the kind that gives rows of other folds the lowest log loss, of equals the first.

    Args:
        task: the task.
        logits: (N, C).
        targets: (N, C).
        folds: (N,) the fold of each row.
    """
    every = slice(None, None, -(-len(logits) // MOST_ROWS))
    logits, targets, folds = logits[every], targets[every], folds[every]
    kinds: list[Kind] = ["none", *CANDIDATES[task.kind]]
    if task.kind == "multiclass" and task.n_classes > MOST_FOR_VECTOR:
        kinds.remove("vector")
    losses = [
        log_losses(task, cross_fitted(task, kind, logits, targets, folds), targets).mean() for kind in kinds
    ]
    return kinds[int(np.argmin(losses))]


def cross_fitted(
    task: Task, kind: Kind, logits: NDArray[Any], targets: NDArray[Any], folds: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return probabilities (N, C), each row's by a calibration that was fitted on the other folds."""
    if kind == "none":
        return NONE.probabilities(task, logits)
    probabilities = np.empty(logits.shape, dtype=np.float32)
    for fold in np.unique(folds):
        held = folds == fold
        fitted = fit_calibration(task, kind, logits[~held], targets[~held]) if not held.all() else NONE
        probabilities[held] = fitted.probabilities(task, logits[held])
    return probabilities


def scores(task: Task, kind: Kind, logits: NDArray[Any]) -> Matrix:
    """Return what a calibration of this kind acts on (N, C), of a binary task (N, 1)."""
    z = np.asarray(logits, dtype=np.float64)
    if task.kind == "binary":
        return z[:, 1:] - z[:, :1]
    return log_odds(z) if task.kind == "multiclass" and kind in ("platt", "isotonic") else z


def log_odds(logits: Matrix) -> Matrix:
    """Return log p / (1 - p) (N, C) of softmax probabilities, exact also where p rounds to 1.

    >>> log_odds(np.array([[50.0, 0.0]])).tolist()
    [[50.0, -50.0]]
    """
    shifted = logits - logits.max(axis=1, keepdims=True)
    masses = np.exp(shifted)
    rest = masses.sum(axis=1, keepdims=True) - masses
    rows, top = np.arange(len(logits)), logits.argmax(axis=1)
    others = masses.copy()
    others[rows, top] = 0.0
    rest[rows, top] = others.sum(axis=1)
    return shifted - np.log(np.maximum(rest, np.finfo(np.float64).tiny))


def fit_softmax_temperature(logits: Matrix, targets: Matrix, prior: float = PRIOR) -> float:
    """Return 1 / T of softmax(z / T) with the lowest log loss.

    Args:
        logits: (N, C).
        targets: (N, C), each row summing to one.
        prior: the precision of the prior around 1.

    >>> z = np.array([[4.0, 0.0], [4.0, 0.0], [4.0, 0.0], [4.0, 0.0]])
    >>> y = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> round(fit_softmax_temperature(z, y, prior=0.0) * 4, 6), round(float(np.log(3)), 6)
    (1.098612, 1.098612)
    """
    z = logits - logits.max(axis=1, keepdims=True)
    wanted = float((targets * z).sum())

    def objective(x: Vector) -> tuple[float, Vector, Matrix]:
        scaled = x[0] * z
        top = scaled.max(axis=1, keepdims=True)
        masses = np.exp(scaled - top)
        total = masses.sum(axis=1, keepdims=True)
        p = masses / total
        mean = (p * z).sum(axis=1)
        spread = (p * z * z).sum(axis=1) - mean**2
        value = float((np.log(total) + top).sum()) - x[0] * wanted + prior / 2.0 * (x[0] - 1.0) ** 2
        slope = mean.sum() - wanted + prior * (x[0] - 1.0)
        return float(value), np.array([slope]), np.array([[spread.sum() + prior]])

    return float(np.clip(minimise(objective, np.ones(1))[0], _FLATTEST, _STEEPEST))


def fit_sigmoid(
    z: Vector, y: Vector, *, bias: bool, centre: Vector | None = None, prior: float = PRIOR
) -> Vector:
    """Return a and b of σ(a z + b) with the lowest log loss.

    Args:
        z: (N,) scores.
        y: (N,) targets from 0 to 1.
        bias: whether b is fitted; else it is that of the centre.
        centre: a and b that the prior is around; absent is 1 and 0.
        prior: the precision of the prior.

    >>> z, y = np.array([-1.0, 1.0, -1.0, 1.0]), np.array([0.25, 0.75, 0.25, 0.75])
    >>> fit_sigmoid(z, y, bias=True, prior=0.0).round(6).tolist(), round(float(np.log(3)), 6)
    ([1.098612, 0.0], 1.098612)
    """
    centre = np.array([1.0, 0.0]) if centre is None else centre
    design = np.stack([z, np.ones_like(z)], axis=1) if bias else z[:, None]
    fixed = 0.0 if bias else float(centre[1])
    middle = centre[: design.shape[1]]

    def objective(x: Vector) -> tuple[float, Vector, Matrix]:
        t = design @ x + fixed
        p, softplus = _sigmoid_and_softplus(t)
        value = float(softplus.sum() - y @ t) + prior / 2.0 * float((x - middle) @ (x - middle))
        gradient = design.T @ (p - y) + prior * (x - middle)
        return value, gradient, (design.T * (p * (1.0 - p))) @ design + prior * np.eye(len(x))

    found = minimise(objective, middle)
    slope = float(np.clip(found[0], _FLATTEST, _STEEPEST))
    return np.array([slope, found[1] if bias else fixed])


def platt_targets(y: Matrix) -> Matrix:
    """Return targets (N, C) as if one more row of each side had been seen (Platt 1999, section 2.2).

    >>> platt_targets(np.array([[1.0], [1.0], [0.0]])).round(3).ravel().tolist()
    [0.75, 0.75, 0.333]
    """
    positives = y.sum(axis=0)
    high, low = (positives + 1.0) / (positives + 2.0), 1.0 / (len(y) - positives + 2.0)
    return low + y * (high - low)


def isotonic_knots(z: Vector, y: Vector) -> tuple[Vector, Vector]:
    """Return scores (K,) and probabilities (K,) between which the increasing function is linear.

    Args:
        z: (N,) scores.
        y: (N,) targets from 0 to 1.

    >>> x, p = isotonic_knots(np.array([0.0, 1.0, 2.0, 3.0]), np.array([0.0, 1.0, 0.0, 1.0]))
    >>> x.tolist(), p.round(3).tolist()
    ([0.0, 1.0, 2.0, 3.0], [0.167, 0.5, 0.5, 0.833])
    """
    # Imported here since it is needed for fitting alone, and takes a second to import.
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression(out_of_bounds="clip").fit(z, y)
    nearest = 1.0 / (len(y) + 2.0)
    x, p = np.asarray(fitted.X_thresholds_), np.asarray(fitted.y_thresholds_)
    return x.astype(np.float64), np.clip(p.astype(np.float64), nearest, 1.0 - nearest)


def _fit_sigmoids(z: Matrix, y: Matrix, *, bias: bool) -> tuple[Vector, Vector]:
    """Scale (C,) and bias (C,) of each column, around those of all columns pooled."""
    pooled = fit_sigmoid(z.ravel(), y.ravel(), bias=bias)
    if z.shape[1] == 1:
        pooled = np.array([1.0, 0.0])
    fitted = [fit_sigmoid(column, t, bias=bias, centre=pooled) for column, t in zip(z.T, y.T, strict=True)]
    return np.array([f[0] for f in fitted]), np.array([f[1] for f in fitted])


def _fit_isotonic(z: Matrix, y: Matrix) -> tuple[tuple[Vector, Vector], ...]:
    """Knots of each column; columns that are rare share those of all columns."""
    positives = y.sum(axis=0)
    rare = np.minimum(positives, len(y) - positives) < RARE
    shared = isotonic_knots(z.ravel(), y.ravel()) if rare.any() else (np.zeros(0), np.zeros(0))
    return tuple(shared if rare[c] else isotonic_knots(z[:, c], y[:, c]) for c in range(z.shape[1]))


def _fit_vector(z: Matrix, y: Matrix, inverse: float, prior: float = PRIOR) -> tuple[Vector, Vector]:
    """Scale (C,) and bias (C,) of softmax(a * z + b), around those of temperature scaling."""
    n_classes = z.shape[1]
    centre = np.concatenate([np.full(n_classes, inverse), np.zeros(n_classes)])

    def objective(x: Vector) -> tuple[float, Vector, Matrix]:
        t = x[:n_classes] * z + x[n_classes:]
        t -= t.max(axis=1, keepdims=True)
        masses = np.exp(t)
        total = masses.sum(axis=1, keepdims=True)
        p, away = masses / total, x - centre
        value = float((y * (np.log(total) - t)).sum()) + prior / 2.0 * float(away @ away)
        error, weighted = p - y, p * z
        gradient = np.concatenate([(error * z).sum(axis=0), error.sum(axis=0)]) + prior * away
        # Blocks of (a, a), (a, b) and (b, b): a diagonal of means less the products of two classes' parts.
        aa = np.diag((weighted * z).sum(axis=0)) - weighted.T @ weighted
        ab = np.diag(weighted.sum(axis=0)) - weighted.T @ p
        bb = np.diag(p.sum(axis=0)) - p.T @ p
        return value, gradient, np.block([[aa, ab], [ab.T, bb]]) + prior * np.eye(2 * n_classes)

    found = minimise(objective, centre)
    return found[:n_classes], found[n_classes:]


def _joined(task: Task, p: Matrix) -> NDArray[np.float32]:
    """Probabilities (N, C) of the task from those of each problem of its own."""
    if task.kind == "binary":
        p = np.concatenate([1.0 - p, p], axis=1)
    elif task.kind == "multiclass":
        p = p / np.maximum(p.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    return p.astype(np.float32)


def _softmax(z: Matrix) -> Matrix:
    masses = np.exp(z - z.max(axis=1, keepdims=True))
    return masses / masses.sum(axis=1, keepdims=True)


def _sigmoid(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """σ(z) without overflow."""
    small = np.exp(-np.abs(z))
    return np.where(z >= 0, 1.0, small) / (1.0 + small)


def _sigmoid_and_softplus(z: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """σ(z) and log(1 + exp z), from one exponential."""
    small = np.exp(-np.abs(z))
    return np.where(z >= 0, 1.0, small) / (1.0 + small), np.maximum(z, 0.0) + np.log1p(small)

"""Calibrations against scikit-learn and SciPy, and at their edges."""

from __future__ import annotations

import json
from typing import get_args

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_softmax, logsumexp
from sklearn.calibration import _SigmoidCalibration
from sklearn.isotonic import IsotonicRegression

from etude.core.rng import numpy_generator
from etude.core.task import Kind as TaskKind
from etude.core.task import Task, make_task
from etude.decision.calibration import (
    CANDIDATES,
    Calibration,
    Kind,
    _fit_vector,
    choose_calibration,
    cross_fitted,
    fit_calibration,
    fit_sigmoid,
    fit_softmax_temperature,
    isotonic_knots,
    log_odds,
    platt_targets,
)
from etude.decision.folds import stratified_folds
from etude.evaluation.reliability import calibration_scores, log_losses

KINDS: tuple[Kind, ...] = get_args(Kind)
TASKS: tuple[TaskKind, ...] = get_args(TaskKind)


def overconfident(
    kind: TaskKind, rows: int = 400, seed: int = 0
) -> tuple[Task, NDArray[np.float32], NDArray[np.float32]]:
    """A task, and logits that are three times too large for how often they are right, with targets."""
    draw = numpy_generator(seed, "overconfident", kind)
    n_classes = 2 if kind == "binary" else 4
    logits = draw.normal(size=(rows, n_classes))
    if kind == "multilabel":
        targets = draw.random((rows, n_classes)) < expit(logits)
    else:
        targets = np.eye(n_classes)[(logits + draw.gumbel(size=logits.shape)).argmax(axis=1)]
    task = make_task(kind, "abcd"[:n_classes])
    return task, (3.0 * logits).astype(np.float32), targets.astype(np.float32)


def test_temperature_is_what_scipy_finds() -> None:
    _, logits, targets = overconfident("multiclass")
    ours = fit_softmax_temperature(logits.astype(np.float64), targets.astype(np.float64), prior=0.0)
    theirs = minimize(lambda b: -(targets * log_softmax(b * logits, axis=1)).sum(), 1.0, tol=1e-10).x[0]
    assert ours == pytest.approx(theirs, rel=1e-5)
    assert ours == pytest.approx(1 / 3, abs=0.05)


@pytest.mark.parametrize("bias", [True, False])
def test_a_sigmoid_is_what_scipy_finds(bias: bool) -> None:
    _, logits, targets = overconfident("multilabel")
    z, y = logits[:, 0].astype(np.float64), targets[:, 0].astype(np.float64)

    def loss(x: NDArray[np.float64]) -> float:
        t = x[0] * z + (x[1] if bias else 0.0)
        return float((np.logaddexp(0, t) - y * t).sum())

    theirs = minimize(loss, np.array([1.0, 0.0])[: 1 + bias], tol=1e-10).x
    assert fit_sigmoid(z, y, bias=bias, prior=0.0)[: 1 + bias] == pytest.approx(theirs, abs=1e-4)


def test_platt_is_scikit_learns() -> None:
    _, logits, targets = overconfident("binary")
    z, y = (logits[:, 1] - logits[:, 0]).astype(np.float64), targets[:, 1].astype(np.float64)
    a, b = fit_sigmoid(z, platt_targets(y[:, None])[:, 0], bias=True, prior=0.0)
    theirs = _SigmoidCalibration().fit(z, y)
    assert expit(a * z + b) == pytest.approx(theirs.predict(z), abs=1e-4)


def test_vector_scaling_is_what_scipy_finds() -> None:
    _, logits, targets = overconfident("multiclass", rows=60)
    z = logits.astype(np.float64)

    def loss(x: NDArray[np.float64]) -> float:
        a, b = x[:4], x[4:]
        fit = -(targets * log_softmax(a * z + b, axis=1)).sum()
        return float(fit + ((a - 0.5) ** 2).sum() / 2 + (b**2).sum() / 2)

    theirs = minimize(loss, np.zeros(8), tol=1e-8).x
    assert np.concatenate(_fit_vector(z, targets.astype(np.float64), 0.5)) == pytest.approx(theirs, abs=1e-4)


def test_isotonic_is_scikit_learns_but_never_sure() -> None:
    _, logits, targets = overconfident("multilabel")
    z, y = logits[:, 1].astype(np.float64), targets[:, 1].astype(np.float64)
    x, p = isotonic_knots(z, y)
    other = np.linspace(-15, 15, 200)
    theirs = IsotonicRegression(out_of_bounds="clip").fit(z, y).predict(other)
    assert np.interp(other, x, p) == pytest.approx(np.clip(theirs, 1 / 402, 401 / 402), abs=0.003)
    assert (p.min(), p.max()) == (1 / 402, 401 / 402)


def test_log_odds_are_exact_where_probabilities_round_to_one() -> None:
    z = numpy_generator(0, "log odds").normal(size=(20, 5)) * 30
    for c in range(5):
        others = logsumexp(np.delete(z, c, axis=1), axis=1)
        assert log_odds(z)[:, c] == pytest.approx(z[:, c] - others, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("of", TASKS)
def test_other_rows_are_better_calibrated(of: TaskKind, kind: Kind) -> None:
    task, logits, targets = overconfident(of)
    fitted = fit_calibration(task, kind, logits, targets)
    _, others, truth = overconfident(of, seed=1)
    probabilities = fitted.probabilities(task, others)
    assert probabilities.dtype == np.float32
    assert probabilities.shape == truth.shape
    if of != "multilabel":
        assert probabilities.sum(axis=1) == pytest.approx(1.0, abs=1e-5)
    if kind != "none":
        plain = calibration_scores(task, task.probabilities(_tensor(others)).numpy(), truth)
        after = calibration_scores(task, probabilities, truth)
        assert after["ece"] < plain["ece"] * (0.6 if kind == "isotonic" else 0.5)
        assert after["nll"] < plain["nll"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("of", TASKS)
def test_saved_as_json_it_is_the_same_bit_for_bit(of: TaskKind, kind: Kind) -> None:
    task, logits, targets = overconfident(of, rows=100)
    fitted = fit_calibration(task, kind, logits, targets)
    again = Calibration.from_json(json.loads(json.dumps(fitted.to_json())))
    assert np.array_equal(again.probabilities(task, logits), fitted.probabilities(task, logits))
    assert again.describe(task) == fitted.describe(task)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("of", TASKS)
def test_degenerate_rows_give_probabilities(of: TaskKind, kind: Kind) -> None:
    task, logits, targets = overconfident(of, rows=12)
    everything_right = (20.0 * targets).astype(np.float32)
    all_equal = np.zeros_like(logits)
    one_side = (
        np.zeros_like(targets) if of == "multilabel" else np.eye(task.n_classes, dtype=np.float32)[[0] * 12]
    )
    huge = np.where(targets > 0, 1e30, -1e30).astype(np.float32)
    for z, y in [(everything_right, targets), (all_equal, targets), (logits, one_side), (huge, targets)]:
        p = fit_calibration(task, kind, z, y).probabilities(task, z)
        assert np.isfinite(p).all()
        assert ((p >= 0) & (p <= 1)).all()


def test_a_rare_label_follows_the_others() -> None:
    task, logits, targets = overconfident("multilabel", rows=2000)
    targets[:, 3] = 0.0
    targets[np.argsort(-logits[:, 3])[:1], 3] = 1.0  # one positive row, perfectly separated
    fitted = fit_calibration(task, "vector", logits, targets)
    assert fitted.scale[:3] == pytest.approx(1 / 3, abs=0.1)
    assert 0.1 < fitted.scale[3] < 1.0
    shared = fit_calibration(task, "isotonic", logits, targets).knots[3]
    assert len(shared[0]) > len(isotonic_knots(logits[:, 3].astype(np.float64), targets[:, 3])[0])


@pytest.mark.parametrize("of", TASKS)
def test_auto_takes_what_is_best_on_rows_of_other_folds(of: TaskKind) -> None:
    task, logits, targets = overconfident(of)
    folds = stratified_folds(targets > 0, 5, seed=0)
    chosen = choose_calibration(task, logits, targets, folds)
    losses = {
        kind: log_losses(task, cross_fitted(task, kind, logits, targets, folds), targets).mean()
        for kind in ("none", *CANDIDATES[of])
    }
    assert losses[chosen] == min(losses.values())
    assert chosen != "none"


def test_auto_leaves_calibrated_probabilities_alone() -> None:
    task, logits, targets = overconfident("multiclass", rows=2000)
    folds = stratified_folds(targets > 0, 5, seed=0)
    calibrated = fit_calibration(task, "temperature", logits, targets).scale * logits
    assert choose_calibration(task, calibrated.astype(np.float32), targets, folds) == "none"


def test_soft_targets_count_as_shares_of_rows() -> None:
    task, logits, targets = overconfident("multiclass", rows=50)
    soft = (0.75 * targets + 0.25 * targets[:, ::-1]).astype(np.float32)
    twice, rows = np.repeat(logits, 4, axis=0), np.repeat(targets, 4, axis=0)
    rows[::4] = targets[:, ::-1]
    z = twice.astype(np.float64)
    ours = fit_softmax_temperature(logits.astype(np.float64), soft.astype(np.float64), prior=0.0)
    assert ours == pytest.approx(fit_softmax_temperature(z, rows.astype(np.float64), prior=0.0), rel=1e-6)
    assert (
        log_losses(task, fit_calibration(task, "none", logits, soft).probabilities(task, logits), soft).min()
        > 0
    )


def _tensor(values: NDArray[np.float32]):  # type: ignore[no-untyped-def]
    import torch

    return torch.from_numpy(values)

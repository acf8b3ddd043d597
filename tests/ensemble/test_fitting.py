"""What ensembles learn, against closed forms, brute force and scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss as sklearn_log_loss

from etude.backbones.combined import combine, ranks
from etude.core.task import Multiclass, Multilabel
from etude.ensemble.fitting import (
    combined,
    cross_fitted,
    fit,
    fit_stacking,
    fit_weights,
    log_loss,
    quantiles_of,
)

THREE = Multiclass(["a", "b", "c"])
SEVERAL = Multilabel(["a", "b", "c"])


def made(task: Any, n: int = 400, noises: tuple[float, ...] = (0.8, 2.0), seed: int = 0) -> tuple[Any, Any]:
    """Members that see the truth through noise, and the targets."""
    generator = np.random.default_rng(seed)
    truth = generator.normal(0, 2, (n, 3))
    if task.kind == "multilabel":
        targets = (generator.random((n, 3)) < 1 / (1 + np.exp(-truth))).astype(np.float32)
    else:
        gumbel = generator.gumbel(size=(n, 3))
        targets = np.eye(3, dtype=np.float32)[(truth + gumbel).argmax(1)]
    logits = np.stack([truth + generator.normal(0, noise, (n, 3)) for noise in noises])
    return logits.astype(np.float32), targets


def test_the_mean_of_probabilities_and_of_logits() -> None:
    logits, _ = made(THREE)
    weights = np.array([0.3, 0.7], dtype=np.float32)
    p = torch.softmax(torch.from_numpy(logits), -1).numpy()
    mean = torch.softmax(
        torch.from_numpy(combined(logits, "probabilities", {"weights": weights}, THREE)), -1
    ).numpy()
    assert np.allclose(mean, 0.3 * p[0] + 0.7 * p[1], atol=1e-6)
    z = combined(logits, "logits", {"weights": weights}, THREE)
    assert np.allclose(z, 0.3 * logits[0] + 0.7 * logits[1], atol=1e-6)
    sigmoid = torch.sigmoid(
        torch.from_numpy(combined(logits, "probabilities", {"weights": weights}, SEVERAL))
    ).numpy()
    own = 1 / (1 + np.exp(-logits))
    assert np.allclose(sigmoid, 0.3 * own[0] + 0.7 * own[1], atol=1e-5)


@pytest.mark.parametrize("task", [THREE, SEVERAL])
@pytest.mark.parametrize("method", ["probabilities", "logits", "ranks"])
def test_one_member_or_twice_the_same_decides_as_it_does(task: Any, method: Any) -> None:
    logits, targets = made(task, noises=(1.0,))
    for several in (logits, np.concatenate([logits, logits])):
        z = combined(several, method, fit(task, method, several, targets, fitted=False, seed=0), task)
        if method == "ranks":  # monotone in each label's score alone
            for label in range(3):
                order = np.argsort(logits[0, :, label], kind="stable")
                assert (np.diff(z[order, label]) >= 0).all()
        else:
            assert (z.argmax(1) == logits[0].argmax(1)).all()


def test_ranks_forget_the_scale_of_a_member() -> None:
    logits, targets = made(THREE)
    stretched = np.stack([logits[0], 10 * logits[1] + 3])
    one, other = (
        combined(given, "ranks", fit(THREE, "ranks", given, targets, fitted=False, seed=0), THREE)
        for given in (logits, stretched)
    )
    assert np.allclose(one, other, atol=1e-3)


def test_ranks_are_the_share_of_lower_scores() -> None:
    logits, _ = made(THREE, n=1000)
    found = ranks(torch.from_numpy(logits), torch.from_numpy(quantiles_of(logits))).numpy()
    shares = (logits[:, :, None, :] > logits[:, None, :, :]).mean(axis=2)
    assert np.abs(found - shares).max() < 0.01


@pytest.mark.parametrize("task", [THREE, SEVERAL])
@pytest.mark.parametrize("method", ["probabilities", "logits"])
def test_fitted_weights_are_the_best_of_a_grid(task: Any, method: Any) -> None:
    logits, targets = made(task)
    weights = fit_weights(task, method, logits, targets, {})
    assert weights.sum() == pytest.approx(1, abs=1e-5)
    assert (weights >= 0).all()
    grid = [np.array([w, 1 - w], dtype=np.float32) for w in np.linspace(0, 1, 101)]
    losses = [log_loss(task, combined(logits, method, {"weights": w}, task), targets) for w in grid]
    found = log_loss(task, combined(logits, method, {"weights": weights}, task), targets)
    assert found <= min(losses) + 1e-5
    assert weights[0] > weights[1], "the member with less noise counts more"


def test_a_member_of_pure_noise_gets_nearly_nothing() -> None:
    logits, targets = made(THREE, n=2000, noises=(0.5, 0.6))
    noise = np.random.default_rng(9).normal(0, 3, (1, 2000, 3)).astype(np.float32)
    weights = fit_weights(THREE, "probabilities", np.concatenate([logits, noise]), targets, {})
    assert weights[2] < 0.02


def test_the_loss_is_scikit_learns() -> None:
    logits, targets = made(THREE)
    p = torch.softmax(torch.from_numpy(logits[0]).double(), -1).numpy()
    assert log_loss(THREE, logits[0], targets) == pytest.approx(sklearn_log_loss(targets.argmax(1), p))


@pytest.mark.parametrize("task", [THREE, SEVERAL])
def test_stacking_mends_a_member_whose_labels_are_turned_round(task: Any) -> None:
    logits, targets = made(task, noises=(1.0, 1.0))
    spoiled = np.stack([-logits[0], -logits[1]])
    tensors = fit_stacking(task, spoiled, targets, seed=0)
    stacked = log_loss(task, combined(spoiled, "stacking", tensors, task), targets)
    mean = combined(logits, "logits", {"weights": np.array([0.5, 0.5], dtype=np.float32)}, task)
    assert stacked <= log_loss(task, mean, targets) * 1.02


def test_stacking_never_predicts_a_label_that_it_has_not_seen() -> None:
    logits, targets = made(THREE, n=100)
    targets[:, 2], targets[:, 0] = 0, 1 - targets[:, 1]
    z = combined(logits, "stacking", fit_stacking(THREE, logits, targets, seed=0), THREE)
    assert set(z.argmax(1)) == {0, 1}


def test_cross_fitted_scores_are_no_better_than_fresh_rows() -> None:
    """Stacking with many labels to fit flatters itself on its own rows, and not on other folds' rows."""
    own, crossed, fresh = [], [], []
    for seed in range(8):
        logits, targets = made(THREE, n=60, noises=(2.0, 2.0, 2.0), seed=seed)
        more, others = made(THREE, n=2000, noises=(2.0, 2.0, 2.0), seed=100 + seed)
        tensors = fit_stacking(THREE, logits, targets, seed=0)
        own.append(log_loss(THREE, combined(logits, "stacking", tensors, THREE), targets))
        fresh.append(log_loss(THREE, combined(more, "stacking", tensors, THREE), others))
        z = cross_fitted(THREE, "stacking", logits, targets, fitted=True, seed=0)
        crossed.append(log_loss(THREE, z, targets))
    assert np.mean(own) < np.mean(crossed)
    assert abs(np.mean(crossed) - np.mean(fresh)) < abs(np.mean(own) - np.mean(fresh))


def test_gradients_reach_every_member() -> None:
    logits = torch.randn(2, 4, 3, requires_grad=True)
    combine(logits, "probabilities", {"weights": torch.tensor([0.5, 0.5])}, several=False).sum().backward()
    assert logits.grad is not None
    assert (logits.grad.abs().sum((1, 2)) > 0).all()

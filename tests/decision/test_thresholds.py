"""Global, per-label, shrunk and cost thresholds, and the offsets of a multiclass task."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import f1_score

from etude.core.rng import numpy_generator
from etude.decision.counts import count_metric, f_beta
from etude.decision.offsets import fit_offsets, log_probabilities
from etude.decision.sweep import best_threshold
from etude.decision.thresholds import (
    average_thresholds,
    cost_threshold,
    global_threshold,
    label_thresholds,
    shrink,
)
from etude.errors import ConfigError

P = np.array([[0.1, 0.6], [0.2, 0.7], [0.3, 0.8], [0.4, 0.9]], dtype=np.float32)
T = np.array([[0, 0], [0, 0], [1, 1], [1, 1]], dtype=bool)


def test_per_label_finds_what_no_global_threshold_can() -> None:
    own = label_thresholds(P, T, f_beta, common=0.5)
    assert own.round(6).tolist() == [0.25, 0.75]
    assert np.array_equal(P - own >= 0, T)
    # One threshold for both labels: at 0.25 the second is all positive, F1 (1 + 2/3) / 2 and the highest.
    assert global_threshold(P, T, f_beta) == pytest.approx(0.25)


def test_micro_pools_the_labels() -> None:
    pooled = best_threshold(P.ravel(), T.ravel(), f_beta)[0]
    assert global_threshold(P, T, f_beta, "micro") == pooled


def test_labels_of_one_side_take_the_common_threshold() -> None:
    truth = np.stack([T[:, 0], np.zeros(4, dtype=bool)], axis=1)
    assert label_thresholds(P, truth, f_beta, common=0.4).round(6).tolist() == [0.25, 0.4]
    truth[:, 1] = True
    assert label_thresholds(P, truth, f_beta, common=0.4).round(6).tolist() == [0.25, 0.4]
    assert global_threshold(P, np.zeros_like(T), f_beta) is None


def test_shrinkage_by_hand() -> None:
    truth = np.array([[True, True], [False, True], [False, True], [False, False]])
    shrunk = shrink(np.array([0.9, 0.9]), 0.5, truth, shrinkage=1.0)
    # Both labels have one row on their rarer side: half of the logit of 0.9, which is log(9) / 2 = log 3.
    assert shrunk == pytest.approx([0.75, 0.75])
    assert shrink(np.array([0.9, 0.0]), 0.5, truth, shrinkage=0.0).tolist() == [0.9, 0.0]
    edges = shrink(np.array([0.0, 1.1]), 0.5, truth, shrinkage=1.0)
    assert edges == pytest.approx([0.001, 0.999], abs=1e-4)


def test_the_mean_over_folds_leaves_out_folds_without_the_label() -> None:
    folds = [np.array([0.2, np.nan]), np.array([0.4, 0.5]), np.array([0.6, np.nan])]
    assert average_thresholds(folds) == pytest.approx([0.4, 0.5])


def test_the_cost_threshold_is_where_both_decisions_cost_the_same() -> None:
    costs = [[1.0, 4.0], [8.0, 2.0]]
    t = cost_threshold(costs)
    assert t == pytest.approx(1 / 3)
    yes, no = t * costs[1][1] + (1 - t) * costs[0][1], t * costs[1][0] + (1 - t) * costs[0][0]
    assert yes == pytest.approx(no)
    with pytest.raises(
        ConfigError, match=r"a wrong yes costs -1 and a wrong no 1 more than the right answer"
    ):
        cost_threshold([[1.0, 0.0], [1.0, 0.0]])


def macro_f1(
    p: NDArray[np.float64], truth: NDArray[np.bool_], offsets: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Macro F1 (K,) with each of K rows of offsets (K, C)."""
    given = np.eye(3)[(log_probabilities(p)[None] + offsets[:, None]).argmax(axis=2)]  # (K, N, C)
    hits = (given * truth).sum(axis=1)
    return (2 * hits / (given.sum(axis=1) + truth.sum(axis=0))).mean(axis=1)


def test_offsets_find_what_brute_force_finds() -> None:
    axis = np.linspace(-4, 4, 33)
    grid = np.stack([np.zeros(33 * 33), np.repeat(axis, 33), np.tile(axis, 33)], axis=1)
    for case in range(6):
        draw = numpy_generator(case, "offsets")
        p = draw.dirichlet(np.ones(3), size=14)
        truth = np.eye(3, dtype=bool)[np.concatenate([[0, 1, 2], draw.integers(0, 3, 11)])]
        offsets = fit_offsets(p, truth, f_beta)

        reached = macro_f1(p, truth, offsets[None])[0]
        classes, given = truth.argmax(axis=1), (log_probabilities(p) + offsets).argmax(axis=1)
        assert abs(reached - f1_score(classes, given, average="macro", zero_division=0)) < 1e-9
        # Coordinate ascent ends where no single offset does better, and not far from the best of all.
        steps = np.linspace(-4, 4, 81)[:, None, None] * np.eye(3)
        assert macro_f1(p, truth, offsets + steps.reshape(-1, 3)).max() <= reached + 1e-9
        assert reached >= macro_f1(p, truth, grid).max() - 0.12


def test_offsets_stay_where_nothing_is_gained() -> None:
    p = np.array([[0.9, 0.1, 0.0], [0.1, 0.9, 0.0]])
    truth = np.array([[1, 0, 0], [0, 1, 0]], dtype=bool)
    assert fit_offsets(p, truth, f_beta).tolist() == [0.0, 0.0, 0.0]


def test_offsets_maximise_accuracy_where_that_is_asked_for() -> None:
    draw = numpy_generator(0, "offsets for accuracy")
    classes = draw.choice(3, size=300, p=[0.9, 0.05, 0.05])
    logits = draw.normal(size=(300, 3)) + np.eye(3)[classes]  # of a model that knows nothing of the shares
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    offsets = fit_offsets(p, np.eye(3, dtype=bool)[classes], count_metric("accuracy"))
    before = (p.argmax(axis=1) == classes).mean()
    after = ((log_probabilities(p) + offsets).argmax(axis=1) == classes).mean()
    assert after > before + 0.1

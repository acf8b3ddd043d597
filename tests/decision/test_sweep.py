"""The exact sweep against brute force and scikit-learn, with ties, edges and labels of one side."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as reference

from etude.config.decision import COUNT_METRICS
from etude.core.rng import numpy_generator
from etude.decision.counts import CountMetric, count_metric
from etude.decision.sweep import best_common_threshold, best_threshold, threshold_curve

COSTS = [[0.0, 1.0], [3.0, 0.5]]
NAMES = (*COUNT_METRICS, "f0.5", "f2")
THEIRS = {
    "f1": reference.f1_score,
    "f0.5": partial(reference.fbeta_score, beta=0.5),
    "f2": partial(reference.fbeta_score, beta=2),
    "precision": reference.precision_score,
    "recall": reference.recall_score,
    "specificity": partial(reference.recall_score, pos_label=0),
    "accuracy": reference.accuracy_score,
    "jaccard": reference.jaccard_score,
    "mcc": reference.matthews_corrcoef,
    "balanced_accuracy": reference.balanced_accuracy_score,
}


def values_at(
    scores: NDArray[Any], truth: NDArray[np.bool_], thresholds: Any, metric: CountMetric
) -> NDArray[np.float64]:
    """The metric (K,) at each of K thresholds, by counting."""
    said = scores.astype(np.float64)[:, None] >= np.atleast_1d(thresholds)
    held = truth[:, None]
    counts = [(held & said), (~held & said), (held & ~said), (~held & ~said)]
    return metric(*(count.sum(axis=0) for count in counts))


def brute_force(scores: NDArray[np.float32], truth: NDArray[np.bool_], metric: CountMetric) -> float:
    """The best value of any threshold at all: at and over every score."""
    tried = np.concatenate([scores, np.nextafter(scores, np.float32(2)), [0.0, 2.0]]).astype(np.float64)
    return float(values_at(scores, truth, tried, metric).max())


def cases() -> list[tuple[NDArray[np.float32], NDArray[np.bool_]]]:
    """Small random labels: with many ties, without, at 0 and 1, and of one side."""
    found = []
    for case in range(20):
        draw = numpy_generator(case, "sweep cases")
        n = int(draw.integers(1, 12))
        scores = draw.random(n) if case % 2 else draw.integers(0, 5, n) / 4.0
        truth = draw.random(n) < (0.5 if case % 10 else float(case % 20 == 0))
        found.append((scores.astype(np.float32), truth))
    return found


@pytest.mark.parametrize("name", NAMES)
def test_finds_what_brute_force_finds(name: str) -> None:
    metric = count_metric(name, COSTS)
    for scores, truth in cases():
        threshold, value = best_threshold(scores, truth, metric)
        assert abs(value - brute_force(scores, truth, metric)) < 1e-12
        assert abs(values_at(scores, truth, threshold, metric)[0] - value) < 1e-12
        assert best_threshold(scores.astype(np.float64), truth, metric) == (threshold, value)


@pytest.mark.parametrize("name", THEIRS)
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.filterwarnings("ignore:A single label was found")
def test_metrics_equal_those_of_scikit_learn(name: str) -> None:
    zero = {} if name in ("accuracy", "mcc", "balanced_accuracy") else {"zero_division": 0}
    for scores, truth in cases()[::2]:
        ours = values_at(scores, truth, 0.5, count_metric(name))[0]
        assert abs(ours - THEIRS[name](truth, scores >= 0.5, **zero)) < 1e-12


def test_every_distinct_cut_is_on_the_curve() -> None:
    scores, truth = np.array([0.2, 0.2, 0.6, 1.0], dtype=np.float32), np.array([0, 1, 1, 0], dtype=bool)
    thresholds, values = threshold_curve(scores, truth, count_metric("recall"))
    assert thresholds.round(6).tolist() == [0.1, 0.4, 0.8, 1.0]
    assert thresholds[-1] > 1.0  # nothing is at least that, not even a probability of 1
    assert values.tolist() == [1.0, 0.5, 0.0, 0.0]


def test_of_equal_optima_the_nearest_to_the_preferred_one_is_taken() -> None:
    scores, recall = np.array([0.1, 0.3, 0.7, 0.9]), count_metric("recall")
    alike = np.array([0.5, 0.5, 0.6, 0.6])
    assert (
        best_threshold(alike, np.array([True, False, True, False]), count_metric("precision"), 0.0)[0] == 0.25
    )
    assert (
        best_threshold(alike, np.array([True, False, True, False]), count_metric("precision"), 0.9)[0] == 0.55
    )
    assert best_threshold(scores, np.array([False, False, True, True]), recall)[0] == pytest.approx(0.5)


def test_equal_scores_are_on_one_side() -> None:
    scores, truth = np.full(5, 0.3, dtype=np.float32), np.array([1, 1, 0, 0, 0], dtype=bool)
    threshold, value = best_threshold(scores, truth, count_metric("f1"))
    assert (threshold, value) == (pytest.approx(0.15), pytest.approx(4 / 7))
    assert best_threshold(scores, truth, count_metric("accuracy"))[0] == pytest.approx(0.65)


def test_a_threshold_lies_between_neighbouring_numbers() -> None:
    low = np.float32(0.3)
    scores = np.array([low, np.nextafter(low, np.float32(1))], dtype=np.float32)
    threshold, value = best_threshold(scores, np.array([False, True]), count_metric("accuracy"))
    assert (scores.astype(np.float64) >= threshold).tolist() == [False, True]
    assert value == 1.0
    doubles = np.array([0.3, np.nextafter(0.3, 1.0)])
    threshold, _ = best_threshold(doubles, np.array([False, True]), count_metric("accuracy"))
    assert (doubles >= threshold).tolist() == [False, True]


@pytest.mark.parametrize("name", ["f1", "mcc", "balanced_accuracy", "cost"])
def test_the_common_threshold_is_that_of_brute_force(name: str) -> None:
    metric = count_metric(name, COSTS)
    for case in range(20):
        draw = numpy_generator(case, "common threshold")
        n, c = int(draw.integers(2, 9)), int(draw.integers(1, 4))
        scores = (draw.integers(0, 6, (n, c)) / 5.0).astype(np.float32)
        truth = draw.random((n, c)) < 0.5
        threshold, value = best_common_threshold(scores, truth, metric)
        tried = np.append(np.linspace(-0.1, 1.1, 13), threshold)
        labels = zip(scores.T, truth.T, strict=True)
        means = np.mean([values_at(column, held, tried, metric) for column, held in labels], axis=0)
        assert abs(value - means.max()) < 1e-9
        assert abs(value - means[-1]) < 1e-9


def test_the_metric_must_be_one_of_counts() -> None:
    with pytest.raises(ValueError, match=r"'roc_auc' is no metric that a threshold can maximise; choose f1"):
        count_metric("roc_auc")
    with pytest.raises(ValueError, match="did you mean 'precision'"):
        count_metric("precison")

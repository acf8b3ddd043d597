"""The exact sweep against brute force and scikit-learn, with ties, edges and labels of one side."""

from __future__ import annotations

from functools import partial

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


def counts(truth: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    pairs = [(True, True), (False, True), (True, False), (False, False)]
    return [np.array(float(((truth == t) & (predicted == p)).sum())) for t, p in pairs]


def value_at(scores: NDArray[np.float64], truth: NDArray[np.bool_], threshold: float, name: str) -> float:
    return float(count_metric(name, COSTS)(*counts(truth, scores.astype(np.float64) >= threshold)))


def brute_force(scores: NDArray[np.float32], truth: NDArray[np.bool_], metric: CountMetric) -> float:
    """The best value of any threshold at all: below, at and above every score."""
    tried = np.concatenate([scores, np.nextafter(scores, np.float32(2)), [0.0, 2.0]]).astype(np.float64)
    return max(float(metric(*counts(truth, scores.astype(np.float64) >= t))) for t in tried)


def cases() -> list[tuple[NDArray[np.float32], NDArray[np.bool_]]]:
    """Small random labels: with many ties, without, at 0 and 1, and of one side."""
    found = []
    for case in range(40):
        draw = numpy_generator(case, "sweep cases")
        n = int(draw.integers(1, 12))
        scores = draw.random(n) if case % 2 else draw.integers(0, 5, n) / 4.0
        truth = draw.random(n) < (0.5 if case % 10 else float(case % 20 == 0))
        found.append((scores.astype(np.float32), truth))
    return found


@pytest.mark.parametrize("name", NAMES)
def test_finds_what_brute_force_finds(name: str) -> None:
    for scores, truth in cases():
        threshold, value = best_threshold(scores, truth, count_metric(name, COSTS))
        assert value == pytest.approx(brute_force(scores, truth, count_metric(name, COSTS)), abs=1e-12)
        assert value_at(scores, truth, threshold, name) == pytest.approx(value, abs=1e-12)
        assert best_threshold(scores.astype(np.float64), truth, count_metric(name, COSTS)) == (
            threshold,
            value,
        )


@pytest.mark.parametrize("name", THEIRS)
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.filterwarnings("ignore:A single label was found")
def test_metrics_equal_those_of_scikit_learn(name: str) -> None:
    zero = {} if name in ("accuracy", "mcc", "balanced_accuracy") else {"zero_division": 0}
    for scores, truth in cases():
        predicted = scores >= 0.5
        ours = float(count_metric(name)(*counts(truth, predicted)))
        assert ours == pytest.approx(THEIRS[name](truth, predicted, **zero), abs=1e-12)


def test_every_distinct_cut_is_on_the_curve() -> None:
    scores, truth = np.array([0.2, 0.2, 0.6, 1.0], dtype=np.float32), np.array([0, 1, 1, 0], dtype=bool)
    thresholds, values = threshold_curve(scores, truth, count_metric("recall"))
    assert thresholds.round(6).tolist() == [0.1, 0.4, 0.8, 1.0]
    assert thresholds[-1] > 1.0  # nothing is at least that, not even a probability of 1
    assert values.tolist() == [1.0, 0.5, 0.0, 0.0]


def test_of_equal_optima_the_nearest_to_the_preferred_one_is_taken() -> None:
    scores, truth = np.array([0.1, 0.3, 0.7, 0.9]), np.array([True, False, False, True])
    f1 = count_metric("accuracy")  # right in 2 of 4 with a threshold of 0.05, and in 3 with 0.8
    assert best_threshold(scores, truth, f1) == (pytest.approx(0.8), 0.75)
    recall = count_metric("recall")
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

        def mean_at(
            t: float, scores: NDArray[np.float32] = scores, truth: NDArray[np.bool_] = truth
        ) -> float:
            labels = zip(scores.T.astype(np.float64), truth.T, strict=True)
            return float(np.mean([metric(*counts(held, column >= t)) for column, held in labels]))

        assert value == pytest.approx(max(mean_at(t) for t in np.linspace(-0.1, 1.1, 61)), abs=1e-9)
        assert mean_at(threshold) == pytest.approx(value, abs=1e-9)


def test_the_metric_must_be_one_of_counts() -> None:
    with pytest.raises(ValueError, match=r"'roc_auc' is no metric that a threshold can maximise; choose f1"):
        count_metric("roc_auc")
    with pytest.raises(ValueError, match="did you mean 'precision'"):
        count_metric("precison")

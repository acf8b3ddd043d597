"""Calibration error, Brier score and log loss, by hand and against scikit-learn."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss

from etude.core.rng import numpy_generator
from etude.core.task import Binary, Multiclass, Multilabel
from etude.evaluation.reliability import (
    brier_score,
    calibration_error_per_label,
    calibration_scores,
    confidences,
    expected_calibration_error,
    log_losses,
    reliability_bins,
)


def test_bins_hold_equally_many() -> None:
    p = numpy_generator(0, "bins").random(1000)
    bins = reliability_bins(p, p > 0.5, 15)
    assert {b.rows for b in bins} <= {66, 67}
    assert sum(b.rows for b in bins) == 1000
    assert all(a.high < b.low for a, b in pairwise(bins))


def test_the_order_of_rows_does_not_matter() -> None:
    draw = numpy_generator(1, "bins")
    p, y = draw.integers(0, 6, 500) / 5.0, draw.random(500) < 0.5
    order = draw.permutation(500)
    assert reliability_bins(p, y, 15) == reliability_bins(p[order], y[order], 15)
    assert len(reliability_bins(p, y, 15)) <= 6


def test_calibration_error_by_hand() -> None:
    p, y = np.array([0.1, 0.3, 0.7, 0.9]), np.array([0, 1, 1, 1])
    # Two bins: means 0.2 against 0.5 and 0.8 against 1.
    assert expected_calibration_error(p, y, 2) == pytest.approx((0.3 + 0.2) / 2)


def test_probabilities_of_zero_and_one() -> None:
    task, p = Binary(["no", "yes"]), np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    right = calibration_scores(task, p, p)
    assert right == pytest.approx({"ece": 0.0, "brier": 0.0, "nll": 0.0})
    wrong = calibration_scores(task, p, 1.0 - p)
    assert (wrong["ece"], wrong["brier"]) == (1.0, 1.0)
    assert wrong["nll"] == pytest.approx(-np.log(np.finfo(np.float64).eps))


def test_scores_equal_those_of_scikit_learn() -> None:
    draw = numpy_generator(2, "scores")
    p = draw.dirichlet(np.ones(3), size=50)
    classes = draw.integers(0, 3, 50)
    task, y = Multiclass(["a", "b", "c"]), np.eye(3)[classes]
    assert log_losses(task, p, y).mean() == pytest.approx(log_loss(classes, p))
    assert brier_score(task, p, y) == pytest.approx(brier_score_loss(classes, p, scale_by_half=False))
    two, y2 = Binary(["a", "b"]), np.eye(2)[classes % 2]
    p2 = np.stack([1 - p[:, 0], p[:, 0]], axis=1)
    assert brier_score(two, p2, y2) == pytest.approx(brier_score_loss(classes % 2, p[:, 0]))


def test_what_is_compared_with_what() -> None:
    p, y = np.array([[0.7, 0.2, 0.1], [0.3, 0.3, 0.4]]), np.array([[1.0, 0, 0], [0, 1, 0]])
    assert [v.tolist() for v in confidences(Multiclass(["a", "b", "c"]), p, y)] == [[0.7, 0.4], [1.0, 0.0]]
    assert confidences(Multilabel(["a", "b", "c"]), p, y)[0].shape == (6,)
    assert confidences(Binary(["a", "b"]), p[:, :2], y[:, :2])[0].tolist() == [0.2, 0.3]
    assert calibration_error_per_label(p, y) == pytest.approx([0.3, 0.45, 0.25])


def test_rows_out_of_scope_are_left_out() -> None:
    task, p = Multiclass(["a", "b"]), np.array([[0.9, 0.1], [0.5, 0.5]])
    y = np.array([[1.0, 0.0], [0.0, 0.0]])
    assert calibration_scores(task, p, y) == calibration_scores(task, p[:1], y[:1])
    assert calibration_scores(task, p[1:], y[1:]) == {}

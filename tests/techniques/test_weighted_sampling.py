"""Weighted sampling: drawn frequencies, classes of weight 0, several labels."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from tiny_contexts import make_context

from etude.core.phases import SAMPLE, View
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.errors import ConfigError
from etude.techniques.sampling.weighted_sampling import (
    WeightedSampling,
    WeightedSamplingConfig,
    row_weights,
)

MOMENT = Moment(seed=0, step=0, epoch=0, steps_per_epoch=10, total_steps=10)


def _drawn(context, n_of_class: list[int], moment: Moment = MOMENT, **settings) -> np.ndarray:
    """The class of each drawn row."""
    classes = np.repeat(np.arange(len(n_of_class)), n_of_class)
    targets = torch.eye(len(n_of_class))[torch.from_numpy(classes)]
    n = len(classes)
    # Row ids differ from positions here: a sampler that mixed them up would leave the view.
    view = View(np.arange(n) + 10_000, targets, torch.ones(n), np.ones(n, dtype=np.int64))
    plan = Plan(context)
    plan.attach(WeightedSampling(WeightedSamplingConfig(**settings)))
    sample = plan.one(SAMPLE)
    assert sample is not None
    drawn = sample(view, moment)
    assert len(drawn) == n
    return classes[drawn]


def test_inverse_draws_all_classes_equally_often() -> None:
    shares = np.bincount(_drawn(make_context(), [300, 1200, 7500])) / 9000
    assert shares == pytest.approx([1 / 3] * 3, abs=0.02)


def test_inverse_sqrt_draws_by_the_root_of_the_count() -> None:
    shares = np.bincount(_drawn(make_context(), [400, 2500, 6400], strategy="inverse_sqrt")) / 9300
    assert shares == pytest.approx([20 / 150, 50 / 150, 80 / 150], abs=0.02)


def test_weights_of_classes_and_zero_is_never_drawn() -> None:
    classes = _drawn(make_context(), [3000, 3000, 3000], weights=[0.1, 0.0, 1.0])
    counts = np.bincount(classes, minlength=3)
    assert counts[1] == 0
    assert counts[0] / 9000 == pytest.approx(0.1 / 1.1, abs=0.02)


def test_probabilities_are_the_rows_weights_normalised_to_one() -> None:
    """Ten classes, the first at 0.1, the second never, the rest 1: as rows, and summing to one."""
    targets, weights = np.eye(10)[[0, 0, 1, 2, 9]], np.array([0.1, 0.0, *[1.0] * 8])
    rows = row_weights(targets, weights, "sum")
    assert (rows / rows.sum()).tolist() == pytest.approx([0.1 / 2.2, 0.1 / 2.2, 0, 1 / 2.2, 1 / 2.2])


def test_weights_by_label_leave_the_others_at_one() -> None:
    counts = np.bincount(_drawn(make_context(), [3000, 3000, 3000], weights={"b": 0.0}), minlength=3)
    assert counts[1] == 0
    assert counts[0] / 9000 == pytest.approx(0.5, abs=0.02)


def test_draws_are_keyed_by_the_moment() -> None:
    later = Moment(seed=0, step=1, epoch=1, steps_per_epoch=10, total_steps=10)
    first, again, other = (_drawn(make_context(), [20, 20, 20], moment) for moment in (MOMENT, MOMENT, later))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_class_without_rows_is_no_obstacle() -> None:
    assert set(_drawn(make_context(), [5, 0, 95])) == {0, 2}


def test_several_labels_are_combined() -> None:
    targets = np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
    weights = np.array([6.0, 2.0, 0.0])
    assert row_weights(targets, weights, "max").tolist() == [6.0, 2.0, 2.0]
    assert row_weights(targets, weights, "mean").tolist() == [4.0, 1.0, 2.0]


def test_none_is_absent() -> None:
    plan = Plan(make_context())
    plan.attach(WeightedSampling(WeightedSamplingConfig(strategy="none")))
    assert plan.entries() == []


def test_weights_of_the_wrong_length_name_both_lengths() -> None:
    with pytest.raises(
        ConfigError, match=r"weighted_sampling.weights has 9 numbers and the task has 3 classes"
    ):
        _drawn(make_context(), [5, 5, 5], weights=[0.1, 0, 1, 1, 1, 1, 1, 1, 1])


def test_nothing_to_draw_is_an_error() -> None:
    with pytest.raises(ConfigError, match="all 10 rows have weight 0, so none can be drawn"):
        _drawn(make_context(), [5, 0, 5], weights=[0.0, 1.0, 0.0])
    with pytest.raises(ConfigError, match=r"weighted_sampling.weights are all 0"):
        _drawn(make_context(), [5, 5, 5], weights=[0.0, 0.0, 0.0])


@pytest.mark.parametrize(
    "settings", [{"strategy": "weights"}, {"strategy": "inverse", "weights": [1.0, 1.0]}]
)
def test_weights_stand_alone(settings) -> None:
    with pytest.raises(ValidationError, match="without a strategy, or a strategy without weights"):
        WeightedSamplingConfig(**settings)


def test_references_agree() -> None:
    found = list(runpy.run_path(str(Path(__file__).parents[2] / "benchmarks/parity/sampling.py"))["rows"]())
    assert {name for name, _, _ in found} == {"weighted_sampling", "oversample"}
    assert max(apart for _, _, apart in found) <= 1e-10

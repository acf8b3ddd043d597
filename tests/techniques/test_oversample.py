"""Oversampling: exact frequencies for one label each, the rule for several, and new rows each epoch."""

import numpy as np
import pytest
import torch
from tiny_contexts import make_context

from etude.core.phases import SAMPLE, View
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.techniques.sampling.oversample import (
    Oversample,
    OversampleConfig,
    goals,
    repeat_classes,
    repeat_labels,
)


def drawn(targets: torch.Tensor, epoch: int = 0, kind: str = "multiclass", **settings: float) -> np.ndarray:
    n = len(targets)
    view = View(np.arange(n) + 1000, targets, torch.ones(n), np.ones(n, dtype=np.int64))
    plan = Plan(make_context(kind))
    plan.attach(Oversample(OversampleConfig(**settings)))
    sample = plan.one(SAMPLE)
    assert sample is not None
    return sample(view, Moment(0, epoch, epoch, 10, 40))


@pytest.mark.parametrize(
    ("counts", "ratio", "expected"),
    [
        ([7, 100, 3], 1.0, [100, 100, 100]),
        ([7, 100, 3], 0.5, [50, 100, 50]),
        ([7, 100, 80], 0.5, [50, 100, 80]),
        ([0, 100, 3], 1.0, [0, 100, 100]),
        ([7, 100, 3], 0.01, [7, 100, 3]),
    ],
)
def test_every_class_reaches_its_goal_exactly(counts: list[int], ratio: float, expected: list[int]) -> None:
    classes = np.repeat(np.arange(3), counts)
    rows = drawn(torch.eye(3)[classes], ratio=ratio)
    assert np.bincount(classes[rows], minlength=3).tolist() == expected
    shown = np.bincount(rows, minlength=len(classes))
    assert shown.min() == 1, "every row is shown"
    for c in range(3):
        assert np.ptp(shown[classes == c]) <= 1 if counts[c] else True, "rows of a class are shown alike"


def test_each_epoch_repeats_other_rows() -> None:
    targets = torch.eye(3)[np.repeat([0, 1, 2], [7, 10, 10])]
    first, again, other = (drawn(targets, epoch) for epoch in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    twice = {row for epoch in range(40) for row in np.flatnonzero(np.bincount(drawn(targets, epoch)) == 2)}
    assert twice == set(range(7))


def test_several_labels_follow_the_rarest() -> None:
    # Counts 80, 20, 4: rows with the rarest label come 20 times, those with the second 4 times.
    held = np.zeros((84, 3), dtype=bool)
    held[:80, 0], held[70:84, 1], held[64:70, 1], held[:4, 2] = True, True, True, True
    assert held.sum(0).tolist() == [80, 20, 4]
    rows = repeat_labels(held, 1.0, np.random.default_rng(0))
    shown = np.bincount(rows)
    assert shown[:4].tolist() == [20] * 4
    assert shown[4:64].tolist() == [1] * 60
    assert shown[64:].tolist() == [4] * 20
    assert held[rows].sum(0).tolist() == [4 * 20 + 60 + 16 * 4, 80, 80]


def test_a_fraction_is_met_on_average_and_rows_without_labels_come_once() -> None:
    held = torch.zeros(40, 3)
    held[:25, 0], held[25:35, 1] = 1.0, 1.0
    shown = np.mean([np.bincount(drawn(held, e, "multilabel"), minlength=40) for e in range(300)], axis=0)
    assert shown[25:35] == pytest.approx(np.full(10, 2.5), abs=0.12)
    assert (shown[:25] == 1).all()
    assert (shown[35:] == 1).all()


def test_a_ratio_of_zero_is_absent() -> None:
    plan = Plan(make_context())
    plan.attach(Oversample(OversampleConfig(ratio=0.0)))
    assert plan.entries() == []


def test_bounds_name_the_value() -> None:
    with pytest.raises(ValueError, match=r"ratio is 1.5 and must lie in \[0, 1\]"):
        goals(np.array([3.0]), 1.5)


def test_balanced_classes_stay_as_they_are() -> None:
    assert repeat_classes(np.array([0, 1, 0, 1]), 1.0, np.random.default_rng(0)).tolist() == [0, 1, 2, 3]

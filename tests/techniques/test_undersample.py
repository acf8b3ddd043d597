"""Undersampling against a row-by-row reference, its caps, and new rows in each epoch."""

import numpy as np
import pytest
import torch
from tiny_contexts import make_context

from etude.core.phases import DATA, View
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.techniques.sampling.undersample import Undersample, UndersampleConfig, cap_of, keep_rows


def one_by_one(held: np.ndarray, cap: int, rng: np.random.Generator) -> list[int]:
    """Keep a row if any of its classes still needs rows; rows without a label are a class of their own."""
    have, kept = np.zeros(held.shape[1] + 1, dtype=int), []
    for row in rng.permutation(len(held)):
        classes = np.flatnonzero(held[row]) if held[row].any() else np.array([held.shape[1]])
        if (have[classes] < cap).any():
            kept.append(int(row))
            have[classes] += 1
    return sorted(kept)


@pytest.mark.parametrize("cap", [1, 3, 20, 10_000])
def test_equals_a_loop_over_rows(cap: int) -> None:
    held = np.random.default_rng(0).random((500, 4)) < [0.02, 0.1, 0.3, 0.5]
    found = keep_rows(held, cap, np.random.default_rng(cap))
    assert found.tolist() == one_by_one(held, cap, np.random.default_rng(cap))
    kept, before = held[found].sum(0), held.sum(0)
    assert (kept >= np.minimum(before, cap)).all()
    assert (~held[found].any(1)).sum() == min(cap, (~held.any(1)).sum())


def view_of(n_of_class: list[int]) -> View:
    classes = np.repeat(np.arange(len(n_of_class)), n_of_class)
    n = len(classes)
    # Ids, weights and lengths differ from positions, so that a mix-up would show.
    return View(
        np.arange(n) + 1000, torch.eye(len(n_of_class))[classes], torch.arange(n) + 0.5, np.arange(n) + 7
    )


def changed(view: View, epoch: int = 0, kind: str = "multiclass", **settings: float) -> View:
    plan = Plan(make_context(kind, class_counts=view.targets.sum(0).numpy(), n_rows=len(view.rows)))
    plan.attach(Undersample(UndersampleConfig(**settings)))
    for change in plan.many(DATA):
        view = change(view, Moment(0, epoch, epoch, 10, 40))
    return view


@pytest.mark.parametrize(
    ("ratio", "kept"), [(1.0, [10, 10, 10]), (2.5, [10, 25, 25]), (3.0, [10, 30, 30]), (20.0, [10, 40, 150])]
)
def test_each_class_keeps_at_most_the_cap(ratio: float, kept: list[int]) -> None:
    view = changed(view_of([10, 40, 150]), ratio=ratio)
    assert view.targets.sum(0).tolist() == kept
    positions = view.rows - 1000
    assert (np.diff(positions) > 0).all()
    assert view.weights.tolist() == (positions + 0.5).tolist()
    assert view.lengths.tolist() == (positions + 7).tolist()
    assert torch.equal(view.targets, view_of([10, 40, 150]).targets[positions])


def test_each_epoch_draws_its_own_rows() -> None:
    whole = view_of([5, 5, 50])
    first, again, other = (changed(whole, epoch, ratio=1.0).rows for epoch in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    seen = np.unique(np.concatenate([changed(whole, epoch, ratio=1.0).rows for epoch in range(300)]))
    assert len(seen) == 60, "some row is never shown"


def test_several_labels_and_none() -> None:
    targets = torch.tensor([[1.0, 0.0, 0.0]] * 30 + [[1.0, 1.0, 0.0]] * 4 + [[0.0, 0.0, 0.0]] * 20)
    view = View(np.arange(54), targets, torch.ones(54), np.ones(54, dtype=np.int64))
    kept = changed(view, kind="multilabel", ratio=1.0).targets
    assert kept[:, 1].sum() == 4
    assert 4 <= kept[:, 0].sum() <= 8
    assert (kept.sum(1) == 0).sum() == 4


def test_a_large_ratio_is_absent() -> None:
    plan = Plan(make_context())
    plan.attach(Undersample(UndersampleConfig(ratio=10.0)))
    assert plan.entries() == []


def test_the_cap_passes_empty_classes_over() -> None:
    assert cap_of(np.array([0, 7, 0, 9]), 1.5) == 10
    assert cap_of(np.array([0, 0]), 2.0) == 1
    with pytest.raises(ValueError, match=r"ratio is 0\.5 and must be at least 1"):
        cap_of(np.array([3]), 0.5)

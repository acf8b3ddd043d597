"""Splits: exact sizes, kept proportions, no lost class, and draws that only the seed decides."""

import numpy as np
import pytest
from numpy.typing import NDArray

from etude.core.task import Multiclass, Task, make_task
from etude.data.splits import split, subsample
from etude.errors import DataError


def _classes(counts: list[int]) -> tuple[Task, NDArray[np.float32]]:
    kind = "binary" if len(counts) == 2 else "multiclass"
    task = make_task(kind, [str(c) for c in range(len(counts))])
    classes = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    return task, np.eye(len(counts), dtype=np.float32)[classes]


def _multilabel(n_rows: int, rates: list[float]) -> tuple[Task, NDArray[np.float32]]:
    task = make_task("multilabel", [str(c) for c in range(len(rates))])
    drawn = np.random.default_rng(0).random((n_rows, len(rates)))
    return task, (drawn < rates).astype(np.float32)


def test_classes_keep_their_proportions_to_the_row() -> None:
    task, targets = _classes([500, 300, 170, 30])
    train, held_out = split(task, targets, 0.2, seed=3)
    assert targets[held_out].sum(axis=0).tolist() == [100, 60, 34, 6]
    assert sorted([*train, *held_out]) == list(range(1000))
    assert np.all(np.diff(train) > 0)
    assert np.all(np.diff(held_out) > 0)


@pytest.mark.parametrize("validation", [1, 7, 33, 0.15, 0.5])
def test_counts_are_exact_whatever_the_classes(validation: float) -> None:
    task, targets = _classes([41, 22, 9, 2, 1, 1])
    train, held_out = split(task, targets, validation, seed=0)
    expected = validation if isinstance(validation, int) else round(validation * 76)
    assert len(held_out) == expected
    shares = targets[held_out].sum(axis=0)
    assert np.all(np.abs(shares - expected * targets.mean(axis=0))[:4] < 1.5)
    assert np.all(targets[train].sum(axis=0) >= 1), "a class lost its last training row"


def test_a_class_with_one_row_stays_in_training() -> None:
    task, targets = _classes([10, 1, 1, 1])
    train, held_out = split(task, targets, 9, seed=0)
    assert targets[held_out].sum(axis=0).tolist() == [9, 0, 0, 0]
    assert targets[train].sum(axis=0).tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("n_held_out", [1, 50, 217, 500])
def test_labels_keep_their_frequencies_and_counts_are_exact(n_held_out: int) -> None:
    task, targets = _multilabel(1000, [0.5, 0.2, 0.05, 0.01])
    train, held_out = split(task, targets, n_held_out, seed=1)
    assert len(held_out) == n_held_out
    assert sorted([*train, *held_out]) == list(range(1000))
    expected = targets.sum(axis=0) * n_held_out / 1000
    assert np.all(np.abs(targets[held_out].sum(axis=0) - expected) <= 3)


def test_iterative_stratification_is_closer_than_chance_for_rare_labels() -> None:
    task, targets = _multilabel(2000, [0.3] + [0.01] * 20)
    _, held_out = split(task, targets, 0.1, seed=0)
    chance = subsample(np.arange(2000), 200, seed=0)

    def distance(rows: NDArray[np.int64]) -> float:
        return float(np.abs(targets[rows].sum(axis=0) - 0.1 * targets.sum(axis=0)).mean())

    assert distance(held_out) < 0.5 * distance(chance)


def test_a_multilabel_task_of_one_label_and_rows_without_any() -> None:
    task, targets = _multilabel(200, [0.1])
    _, held_out = split(task, targets, 0.25, seed=0)
    assert len(held_out) == 50
    assert abs(targets[held_out].sum() - targets.sum() / 4) <= 1


@pytest.mark.parametrize("many", [False, True])
def test_the_seed_alone_decides(many: bool) -> None:
    task, targets = _multilabel(300, [0.3, 0.1]) if many else _classes([200, 100])
    first, again, other = (split(task, targets, 0.1, seed=seed)[1] for seed in (5, 5, 6))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_sizes_that_cannot_be() -> None:
    task, targets = _classes([5, 5, 1])
    with pytest.raises(DataError, match=r"data.validation = 0.01 of 11 rows is no row at all; give a larger"):
        split(task, targets, 0.01, seed=0)
    with pytest.raises(DataError, match=r"data.validation = 11 leaves none of the 11 rows to train on"):
        split(task, targets, 11, seed=0)
    with pytest.raises(
        DataError, match=r"= 9 of 11 rows leaves no training row for some of the 3 classes; g.*8"
    ):
        split(task, targets, 9, seed=0)


def test_subsamples_are_ascending_subsets() -> None:
    rows = np.arange(100, 200)
    chosen = subsample(rows, 10, seed=0)
    assert len(set(chosen.tolist()) & set(rows.tolist())) == 10
    assert np.all(np.diff(chosen) > 0)
    assert np.array_equal(chosen, subsample(rows, 10, seed=0))
    assert not np.array_equal(chosen, subsample(rows, 10, seed=1))
    assert subsample(rows, None, seed=0) is rows
    assert subsample(rows, 1000, seed=0) is rows


def test_every_row_is_in_one_part_whatever_the_split() -> None:
    task, targets = _multilabel(200, [0.4, 0.1, 0.02])
    groups, times = [str(i % 23) for i in range(200)], np.arange(200.0)[::-1]
    for how in ({}, {"groups": groups}, {"times": times}, {"groups": groups, "times": times}):
        train, held_out = split(task, targets, 0.2, seed=0, **how)  # type: ignore[arg-type]
        assert sorted([*train, *held_out]) == list(range(200))


def test_a_fraction_may_be_meant_of_more_rows_than_are_left() -> None:
    task, targets = _classes([40, 40])
    _, held_out = split(task, targets, 0.2, seed=0, n_whole=100)
    assert len(held_out) == 20
    with pytest.raises(
        DataError, match=r"data.test = 0.9 leaves none of the 80 rows that are left of 100 to"
    ):
        split(task, targets, 0.9, seed=0, part="test", n_whole=100)


def test_parts_are_drawn_independently() -> None:
    task, targets = _classes([60, 60])
    validation, test = (split(task, targets, 30, seed=0, part=part)[1] for part in ("validation", "test"))
    assert not np.array_equal(validation, test)


def test_rows_out_of_scope_are_a_class_that_training_may_lose() -> None:
    task, targets = _classes([80, 20])
    targets = np.concatenate([targets, np.zeros((20, 2), np.float32)])
    _, held_out = split(task, targets, 0.25, seed=0)
    assert targets[held_out].sum(axis=0).tolist() == [20, 5]
    assert (~targets[held_out].any(axis=1)).sum() == 5
    _, nearly_all = split(task, targets, 118, seed=0)
    assert (~targets[nearly_all].any(axis=1)).sum() == 20


@pytest.mark.parametrize("n_rows", [1, 2])
@pytest.mark.parametrize("n_held_out", [3, 20, 40])
def test_a_label_of_one_or_two_rows_keeps_one_for_training(n_rows: int, n_held_out: int) -> None:
    for seed in range(10):
        task, targets = _multilabel(60, [0.5, 0.3])
        rare = np.zeros((60, 3), np.float32)
        for label in range(3):
            rare[label * 7 : label * 7 + n_rows, label] = 1
        targets = np.hstack([targets, rare])
        task = make_task("multilabel", list("abcde"))
        train, held_out = split(task, targets, n_held_out, seed)
        assert len(held_out) == n_held_out
        assert np.all(targets[train].sum(axis=0) >= 1)


def _grouped(n_groups: int) -> tuple[Task, NDArray[np.float32], NDArray[np.int64]]:
    """Groups of 1 to 20 rows, each with a taste of its own."""
    generator = np.random.default_rng(0)
    groups = np.repeat(np.arange(n_groups), generator.integers(1, 21, n_groups))
    taste = generator.dirichlet([0.5] * 4, n_groups)
    classes = np.array([generator.choice(4, p=taste[group]) for group in groups])
    order = generator.permutation(len(groups))
    return Multiclass(list("abcd")), np.eye(4, dtype=np.float32)[classes[order]], groups[order]


@pytest.mark.parametrize("size", [0.1, 0.25, 0.5])
@pytest.mark.parametrize("many", [False, True])
def test_groups_stay_whole_and_classes_near_to_their_share(size: float, many: bool) -> None:
    task, targets, groups = _grouped(150)
    if many:
        task, targets = make_task("multilabel", list("abcd")), np.maximum(targets, np.roll(targets, 1, 0))
    train, held_out = split(task, targets, size, seed=0, groups=groups)
    assert set(groups[train]).isdisjoint(groups[held_out])
    assert len(held_out) == pytest.approx(size * len(groups), abs=10)
    expected = targets.sum(axis=0) * size
    assert np.all(np.abs(targets[held_out].sum(axis=0) - expected) <= 0.06 * targets.sum(axis=0))


def test_the_order_of_rows_within_the_file_does_not_matter_to_group_sizes() -> None:
    task, targets, groups = _grouped(30)
    first = split(task, targets, 0.2, seed=0, groups=groups)[1]
    by_name = split(task, targets, 0.2, seed=0, groups=[f"user {group:03}" for group in groups])[1]
    assert np.array_equal(first, by_name)


def test_a_class_of_one_group_is_not_taken_from_training() -> None:
    task, targets = _classes([40, 10])
    groups = np.where(targets[:, 1] == 1, 0, 1 + np.arange(50) % 8)
    for seed in range(5):
        train, held_out = split(task, targets, 0.2, seed, groups=groups)
        assert targets[train].sum(axis=0).min() > 0
        assert len(held_out) == 10


def test_groups_that_cannot_be_split() -> None:
    task, targets = _classes([5, 5])
    with pytest.raises(DataError, match=r"= 0.3 cannot be split by data.group: all 10 rows are in one group"):
        split(task, targets, 0.3, seed=0, groups=["x"] * 10)
    with pytest.raises(DataError, match=r"each of the 2 groups holds all rows of some label, and training"):
        split(task, targets, 0.3, seed=0, groups=targets[:, 0].astype(np.int64))


def test_the_latest_rows_are_held_out_and_equal_times_keep_the_files_order() -> None:
    task, targets = _classes([5, 5])
    times = np.array([5.0, 9, 1, 9, 9, 2, 8, 0, 3, 4])
    assert split(task, targets, 1, seed=0, times=times)[1].tolist() == [4]
    assert split(task, targets, 0.3, seed=0, times=times)[1].tolist() == [1, 3, 4]
    assert split(task, targets, 4, seed=7, times=times)[1].tolist() == [1, 3, 4, 6]


def test_groups_in_time_are_held_out_by_their_latest_rows() -> None:
    task, targets = _classes([5, 5])
    times = np.array([0.0, 9, 1, 2, 3, 8, 4, 5, 6, 7])
    groups = ["a", "a", "b", "b", "c", "c", "d", "d", "e", "e"]
    train, held_out = split(task, targets, 3, seed=0, times=times, groups=groups)
    assert held_out.tolist() == [0, 1], "of two and four rows, both as near to three, the fewer"
    assert times[train].max() < times[held_out].max()
    with pytest.raises(DataError, match=r"data.validation = 3 cannot be split by data.time: all 10 rows are"):
        split(task, targets, 3, seed=0, times=times, groups=["a"] * 10)

"""Splits: exact sizes, kept proportions, no lost class, and draws that only the seed decides."""

import numpy as np
import pytest
from numpy.typing import NDArray

from etude.core.task import Task, make_task
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

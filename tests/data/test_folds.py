"""Folds: every row is held out once, in folds that resemble each other, and never after its future."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, TimeSeriesSplit

from etude.core.task import Multiclass, Multilabel, Task
from etude.data.folds import make_folds, rows_of_fold
from etude.errors import DataError


def _classes(counts: list[int]) -> tuple[Task, NDArray[np.float32]]:
    classes = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    return Multiclass([str(c) for c in range(len(counts))]), np.eye(len(counts), dtype=np.float32)[classes]


def _sizes(folds: NDArray[np.int64]) -> list[int]:
    return np.bincount(folds).tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("n_folds", [2, 5, 7])
def test_classes_and_sizes_differ_by_one_at_most(n_folds: int) -> None:
    task, targets = _classes([83, 41, 9, 3, 1])
    folds = make_folds(task, targets, n_folds, seed=0)
    assert set(folds) == set(range(n_folds))
    assert np.ptp(_sizes(folds)) <= 1
    for column in targets.T:
        assert np.ptp(np.bincount(folds, weights=column, minlength=n_folds)) <= 1


def test_rows_out_of_scope_are_dealt_as_a_class() -> None:
    task, targets = _classes([20, 20])
    folds = make_folds(task, np.concatenate([targets, np.zeros((10, 2), np.float32)]), 5, seed=0)
    assert _sizes(folds[40:]) == [2] * 5


def test_several_labels_keep_their_frequencies() -> None:
    drawn = np.random.default_rng(0).random((600, 4)) < [0.5, 0.2, 0.05, 0.02]
    folds = make_folds(Multilabel(list("abcd")), drawn.astype(np.float32), 5, seed=0)
    assert np.ptp(_sizes(folds)) <= 10
    for column in drawn.T:
        assert np.ptp(np.bincount(folds, weights=column, minlength=5)) <= 2


def test_labels_of_one_or_two_rows_and_rows_of_no_label() -> None:
    targets = np.zeros((12, 3), np.float32)
    targets[0, 0] = targets[1, 1] = targets[2, 1] = 1
    folds = make_folds(Multilabel(list("abc")), targets, 4, seed=0)
    assert set(folds) == {0, 1, 2, 3}
    assert folds[1] != folds[2]
    only = make_folds(Multilabel(["a"]), targets[:, :1], 3, seed=0)
    assert set(only) == {0, 1, 2}


@pytest.mark.parametrize("many", [False, True])
def test_the_seed_alone_decides(many: bool) -> None:
    task, targets = _classes([30, 20])
    task = Multilabel(["0", "1"]) if many else task
    first, again, other = (make_folds(task, targets, 4, seed=seed) for seed in (5, 5, 6))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_groups_are_in_one_fold_and_stratified_as_well_as_scikit_learn_does() -> None:
    generator = np.random.default_rng(0)
    groups = np.repeat(np.arange(120), generator.integers(1, 16, 120))
    taste = generator.dirichlet([0.5] * 3, 120)
    classes = np.array([generator.choice(3, p=taste[group]) for group in groups])
    targets = np.eye(3, dtype=np.float32)[classes]
    folds = make_folds(Multiclass(list("abc")), targets, 5, groups=groups, seed=0)
    assert all(len(set(folds[groups == group])) == 1 for group in range(120))

    def distance(found: NDArray[np.int64]) -> float:
        counts = np.stack([np.bincount(found, weights=column, minlength=5) for column in targets.T])
        return float(np.abs(counts - counts.mean(axis=1, keepdims=True)).max())

    theirs = []
    for splitter in (GroupKFold(5), StratifiedGroupKFold(5, shuffle=True, random_state=0)):
        found = np.empty(len(groups), np.int64)
        for fold, (_, rows) in enumerate(splitter.split(classes, classes, groups)):
            found[rows] = fold
        theirs.append(distance(found))
    assert distance(folds) <= min(theirs)
    assert np.ptp(_sizes(folds)) <= 5


def test_folds_in_time_are_those_of_scikit_learn() -> None:
    times = np.random.default_rng(0).permutation(103).astype(float)
    task, targets = _classes([50, 53])
    folds = make_folds(task, targets, 4, times=times, seed=0)
    order = np.argsort(times)
    for fold, (train, held_out) in enumerate(TimeSeriesSplit(4).split(order)):
        ours = rows_of_fold(folds, fold, in_time=True)
        assert set(ours[0]) == set(order[train])
        assert set(ours[1]) == set(order[held_out])
        assert times[ours[0]].max() < times[ours[1]].min()


def test_groups_in_time_are_where_their_latest_rows_are() -> None:
    times = np.arange(40.0)
    groups = np.arange(40) // 2 % 10 + 10 * (np.arange(40) // 20)  # pairs of rows that return once
    task, targets = _classes([20, 20])
    folds = make_folds(task, targets, 3, groups=groups, times=times, seed=0)
    assert all(len(set(folds[groups == group])) == 1 for group in set(groups.tolist()))
    for fold in range(3):
        train, held_out = rows_of_fold(folds, fold, in_time=True)
        assert times[train].max() < times[held_out].max()


def test_a_fold_and_the_rest() -> None:
    train, held_out = rows_of_fold(np.array([0, 1, 2, 1]), 1)
    assert (train.tolist(), held_out.tolist()) == ([0, 2], [1, 3])


def test_numbers_of_folds_that_cannot_be() -> None:
    task, targets = _classes([2, 2])
    with pytest.raises(DataError, match=r"^4 rows cannot make 5 folds; give at most as many as rows$"):
        make_folds(task, targets, 5, seed=0)
    with pytest.raises(
        DataError, match=r"^2 group\(s\) cannot make 3 folds; give at most as many folds as g"
    ):
        make_folds(task, targets, 3, groups=["a", "a", "b", "b"], seed=0)
    with pytest.raises(
        DataError, match=r"^4 rows cannot make 4 folds in time and a stretch before them; giv"
    ):
        make_folds(task, targets, 4, times=np.arange(4.0), seed=0)
    with pytest.raises(
        DataError, match=r"^2 groups, some of them large, cannot make 2 folds in time and a s"
    ):
        make_folds(task, targets, 2, times=np.arange(4.0), groups=["a", "a", "b", "b"], seed=0)

"""Batches are frozen: every operation gives a new one."""

import dataclasses

import pytest
import torch

from etude.core.batch import Batch


@pytest.fixture
def batch() -> Batch:
    return Batch(
        {"x": torch.arange(10.0).reshape(5, 2)}, torch.eye(5)[:, :3], torch.ones(5), torch.arange(5) + 100
    )


def test_no_field_can_be_set(batch: Batch) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        batch.weights = torch.zeros(5)  # type: ignore[misc]


def test_replace_leaves_the_old_batch_alone(batch: Batch) -> None:
    changed = batch.replace(weights=torch.zeros(5)).with_inputs(x=torch.zeros(5, 2), y=torch.ones(5))
    assert changed.inputs.keys() == {"x", "y"}
    assert batch.inputs.keys() == {"x"}
    assert batch.weights.sum() == 5
    assert batch.inputs["x"].sum() == 45
    assert changed.targets is batch.targets


def test_select_takes_rows_in_their_order(batch: Batch) -> None:
    taken = batch.select(torch.tensor([4, 0]))
    assert taken.index.tolist() == [104, 100]
    assert taken.inputs["x"].tolist() == [[8, 9], [0, 1]]
    assert taken.targets.shape == (2, 3)
    assert len(taken) == 2


@pytest.mark.parametrize(("size", "parts"), [(1, [1] * 5), (2, [2, 2, 1]), (4, [4, 1]), (5, [5]), (99, [5])])
def test_split_loses_nothing(batch: Batch, size: int, parts: list[int]) -> None:
    found = list(batch.split(size))
    assert [len(part) for part in found] == parts
    assert torch.equal(torch.cat([part.inputs["x"] for part in found]), batch.inputs["x"])
    assert torch.equal(torch.cat([part.index for part in found]), batch.index)


def test_a_batch_that_need_not_be_split_is_itself(batch: Batch) -> None:
    assert next(batch.split(5)) is batch
    assert batch.to(torch.device("cpu")) is batch


def test_to_moves_every_tensor(batch: Batch) -> None:
    moved = batch.to(torch.device("meta"))
    tensors = [*moved.inputs.values(), moved.targets, moved.weights, moved.index]
    assert {value.device.type for value in tensors} == {"meta"}

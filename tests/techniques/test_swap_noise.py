"""Swap noise: values of the same column, of another row, by the share, with keyed draws."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from tiny_contexts import make_context

from etude.core.batch import Batch
from etude.core.phases import AUGMENT
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.task import make_task
from etude.techniques.augment.swap_noise import SwapNoise, SwapNoiseConfig, swap
from etude.testing.tiny import tiny_backbone


def noise(share: float) -> Callable[[Batch, Moment], Batch]:
    backbone = tiny_backbone("table", make_task("multiclass", ["a", "b", "c"]))
    plan = Plan(make_context(backbone=backbone))
    plan.attach(SwapNoise(SwapNoiseConfig(share=share)))
    return plan.many(AUGMENT)[0]


@pytest.fixture
def batch() -> Batch:
    """Row r has 100 c + r in column c, as a number and as a category."""
    table = 100 * torch.arange(6)[None, :] + torch.arange(90)[:, None]
    inputs = {"numbers": table.float(), "categories": table[:, :4]}
    return Batch(inputs, torch.ones(90, 1), torch.ones(90), torch.arange(90))


def test_cells_come_from_other_rows_of_their_column(batch: Batch, moment: Moment) -> None:
    before = {name: value.clone() for name, value in batch.inputs.items()}
    new = noise(0.15)(batch, moment)
    n_changed = 0
    for name, table in new.inputs.items():
        assert table.dtype == before[name].dtype
        assert torch.equal(table // 100, before[name] // 100), "columns do not mix"
        n_changed += int((table != before[name]).sum())
        assert torch.equal(batch.inputs[name], before[name])
    # 900 cells, none of which may keep its own value: five standard errors are 0.06.
    assert abs(n_changed / 900 - 0.15) < 0.06


def test_share_one_changes_every_cell(batch: Batch, moment: Moment) -> None:
    new = noise(1.0)(batch, moment)
    assert all(bool((new.inputs[name] != batch.inputs[name]).all()) for name in batch.inputs)
    # Each cell has a row of its own.
    assert len(set((new.inputs["numbers"][0] % 100).tolist())) > 1


def test_a_lone_row_stays(batch: Batch, moment: Moment) -> None:
    lone = batch.select(slice(0, 1))
    assert noise(1.0)(lone, moment) is lone


def test_same_step_same_draws_and_next_step_others(batch: Batch, moment: Moment) -> None:
    augment = noise(0.5)
    first = augment(batch, moment).inputs["numbers"]
    assert torch.equal(first, augment(batch, moment).inputs["numbers"])
    assert not torch.equal(first, augment(batch, replace(moment, step=8)).inputs["numbers"])


def test_bounds_name_the_value() -> None:
    with pytest.raises(ValueError, match=r"share is -0.1 and must lie in \[0, 1\]"):
        swap(torch.zeros(1, 1), torch.zeros(1, 1), torch.zeros(1, 1, dtype=torch.long), -0.1)

"""Training dynamics: updates by hand and of a real run, when they are logged, and after a stop."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from etude.core.checkpoint import checkpoints, read_checkpoint
from etude.errors import Interrupted
from etude.techniques import technique_class
from etude.techniques.diagnosis.training_dynamics import (
    MEASURED,
    TrainingDynamicsConfig,
    measured_part,
    update_norms,
)
from etude.testing.harness import Recipe, Setup, StopAt, make_engine, train
from etude.testing.technique_suite import difference


def recipe(every: str, **others: Mapping[str, Any]) -> Recipe:
    named = {"training_dynamics": {"every": every}, **others}
    return {technique_class(name): said for name, said in named.items()}


def logged(acting: Recipe, setup: Setup) -> list[Mapping[str, Any]]:
    engine = make_engine(acting, setup)
    lines: list[Mapping[str, Any]] = []
    engine.attach_folder(log=lines.append, checkpoints=None)
    engine.fit()
    return [line for line in lines if "dynamics" in line]


def test_norms_are_of_all_numbers_together() -> None:
    before = [torch.randn(3, 4), torch.randn(5)]
    after = [value + 0.01 * torch.randn_like(value) for value in before]
    change, whole = update_norms(before, after)
    whole_before, whole_after = (torch.cat([v.flatten() for v in values]) for values in (before, after))
    assert whole.item() == pytest.approx(whole_before.norm().item())
    assert change.item() == pytest.approx((whole_after - whole_before).norm().item())


def test_large_tensors_are_measured_on_evenly_spaced_numbers() -> None:
    value = torch.randn(MEASURED + 1, generator=torch.Generator().manual_seed(0))
    assert torch.equal(measured_part(value), value[::2])
    assert torch.equal(measured_part(value[:MEASURED]), value[:MEASURED])
    large = torch.randn(700, 1000, generator=torch.Generator().manual_seed(1))
    moved = large * 1.001
    change, whole = update_norms([measured_part(large)], [measured_part(moved)])
    assert len(measured_part(large)) <= MEASURED
    assert (change / whole).item() == pytest.approx(1e-3, rel=0.01)


def test_plain_sgd_moves_by_lr_times_gradient() -> None:
    lines = logged(recipe("1st", sgd={"lr": 0.1, "momentum": 0.0, "weight_decay": 0.0}), Setup())
    engine = make_engine(recipe("1st", sgd={"lr": 0.1, "momentum": 0.0, "weight_decay": 0.0}), Setup())
    start = torch.cat([value.detach().flatten() for value in engine.backbone.parameters()]).norm().item()
    (group,) = lines[0]["dynamics"].values()
    assert group["lr"] == 0.1
    assert group["update_ratio"] == pytest.approx(0.1 * group["grad_norm"] / start, rel=1e-4)


@pytest.mark.parametrize(
    ("every", "steps"), [("1st", [1, 2, 3, 4, 5, 6]), ("4st", [4]), ("1ep", [3, 6]), ("25st", [])]
)
def test_logs_every_so_often_with_the_names_of_the_groups(every: str, steps: list[int]) -> None:
    acting = recipe(every, no_decay={}, head_lr={"factor": 3.0})
    names = [group.name for group in make_engine(acting, Setup()).groups]
    lines = logged(acting, Setup())
    assert [line["step"] for line in lines] == steps
    for line in lines:
        assert list(line["dynamics"]) == names
        json.dumps(line, allow_nan=False)


def test_fifty_times_in_a_run_by_default() -> None:
    assert str(TrainingDynamicsConfig().every) == "0.02dur"
    lines = logged(recipe("0.02dur"), Setup(modality="table", n_rows=400, epochs=1))
    assert len(lines) == 50


def test_gradients_are_the_clipped_ones() -> None:
    for line in logged(recipe("1st", clip={"max_norm": 0.01}), Setup()):
        total = sum(group["grad_norm"] ** 2 for group in line["dynamics"].values()) ** 0.5
        assert total == pytest.approx(0.01, rel=1e-3)


def test_frozen_groups_are_left_out_until_they_train() -> None:
    lines = logged(recipe("1st", freeze={"until": "0.5dur"}), Setup())
    assert [len(line["dynamics"]) for line in lines] == [1, 1, 1, 1, 2, 2]
    assert all("update_ratio" in group for line in lines for group in line["dynamics"].values())


def test_a_ratio_to_nothing_is_left_out() -> None:
    lines = logged(recipe("1st", zero_head={}, head_lr={"factor": 2.0}), Setup())
    assert "update_ratio" not in lines[0]["dynamics"]["1: head"]
    assert "update_ratio" in lines[1]["dynamics"]["1: head"]


def test_skipped_steps_are_not_logged() -> None:
    engine = make_engine(recipe("1st"), Setup(max_steps=3))
    engine.backbone.head[1].weight.data.fill_(torch.nan)
    lines: list[Mapping[str, Any]] = []
    engine.attach_folder(log=lines.append, checkpoints=None)
    engine.fit()
    assert engine.step == 0
    assert not [line for line in lines if "dynamics" in line]


@pytest.mark.parametrize("stop", [1, 2])
def test_a_step_right_after_a_resume_is_logged_alike(stop: int, tmp_path: Path) -> None:
    whole = logged(recipe("2st"), Setup())
    first, second = (
        make_engine({**recipe("2st"), StopAt: {"step": stop}}, Setup()),
        make_engine(recipe("2st"), Setup()),
    )
    lines: list[Mapping[str, Any]] = []
    first.attach_folder(log=lines.append, checkpoints=tmp_path)
    with pytest.raises(Interrupted):
        first.fit()
    second.attach_folder(log=lines.append, checkpoints=None)
    second.load_state(read_checkpoint(checkpoints(tmp_path)[-1]))
    second.fit()
    assert [line for line in lines if "dynamics" in line] == whole


def test_nothing_changes() -> None:
    setup = Setup(dropout=0.2)
    others: dict[str, Mapping[str, Any]] = {"sam": {}, "ema": {}}
    without = {technique_class(name): said for name, said in others.items()}
    assert difference(train(recipe("0.5ep", **others), setup), train(without, setup)) == 0


def test_no_time_is_refused() -> None:
    with pytest.raises(
        ValidationError, match="every is 0st and must be longer; to log nothing, switch it off"
    ):
        TrainingDynamicsConfig(every="0st")

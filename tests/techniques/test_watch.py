"""Watching: norms by hand and of a real step, when they are logged, and that nothing changes."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from etude.techniques import technique_class
from etude.techniques.stability.watch import WatchConfig, block_norms
from etude.testing.harness import Recipe, Setup, make_engine, train
from etude.testing.technique_suite import difference


def recipe(every: str, **others: Mapping[str, Any]) -> Recipe:
    return {technique_class(name): said for name, said in {"watch": {"every": every}, **others}.items()}


def logged(acting: Recipe, setup: Setup) -> list[Mapping[str, Any]]:
    engine = make_engine(acting, setup)
    lines: list[Mapping[str, Any]] = []
    engine.attach_folder(log=lines.append, checkpoints=None)
    engine.fit()
    return [line for line in lines if "watch" in line]


def test_norms_are_those_of_all_numbers_of_a_block() -> None:
    block = nn.Linear(3, 2)
    for value in block.parameters():
        value.grad = torch.randn_like(value)
    weights = torch.cat([value.detach().flatten() for value in block.parameters()])
    gradients = torch.cat([value.grad.flatten() for value in block.parameters() if value.grad is not None])
    found = block_norms([("a", block)])
    assert found["weight_norm"]["a"] == pytest.approx(weights.norm().item())
    assert found["gradient_norm"]["a"] == pytest.approx(gradients.norm().item())
    assert found["ratio"]["a"] == pytest.approx((gradients.norm() / weights.norm()).item())


def test_what_does_not_exist_is_left_out() -> None:
    frozen, zero, broken = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)
    for value in zero.parameters():
        value.data.zero_()
        value.grad = torch.ones_like(value)
    for value in broken.parameters():
        value.grad = torch.full_like(value, torch.inf)
    found = block_norms([("frozen", frozen), ("zero", zero), ("broken", broken), ("empty", nn.Identity())])
    assert set(found["gradient_norm"]) == {"zero"}
    assert set(found["weight_norm"]) == {"frozen", "zero", "broken"}
    assert found["ratio"] == {}
    assert block_norms([]) == {"gradient_norm": {}, "weight_norm": {}, "ratio": {}}


@pytest.mark.parametrize(
    ("every", "steps"), [("1st", [1, 2, 3, 4, 5, 6]), ("4st", [4]), ("1ep", [3, 6]), ("25st", [])]
)
def test_logs_every_so_often_with_the_names_of_the_blocks(every: str, steps: list[int]) -> None:
    lines = logged(recipe(every), Setup())
    assert [line["step"] for line in lines] == steps
    assert [line["epoch"] for line in lines] == [(step - 1) // 3 for step in steps]
    for line in lines:
        assert list(line["watch"]["ratio"]) == ["embedding", "layer.0", "layer.1", "head"]
        json.dumps(line, allow_nan=False)


def test_gradients_are_the_clipped_ones() -> None:
    lines = logged(recipe("1st", clip={"max_norm": 0.01}), Setup())
    for line in lines:
        total = sum(norm**2 for norm in line["watch"]["gradient_norm"].values()) ** 0.5
        assert total == pytest.approx(0.01, rel=1e-3)


def test_frozen_blocks_have_weights_only() -> None:
    lines = logged(recipe("1st", freeze={"until": "1dur"}), Setup())
    assert {tuple(line["watch"]["gradient_norm"]) for line in lines} == {("head",)}
    assert len(lines[0]["watch"]["weight_norm"]) == 4


def test_skipped_steps_are_not_logged() -> None:
    engine = make_engine(recipe("1st"), Setup(max_steps=3))
    engine.backbone.head[1].weight.data.fill_(torch.nan)
    lines: list[Mapping[str, Any]] = []
    engine.attach_folder(log=lines.append, checkpoints=None)
    engine.fit()
    assert engine.step == 0
    assert not [line for line in lines if "watch" in line]


@pytest.mark.parametrize("every", ["1st", "0.5ep", "1dur"])
def test_nothing_changes(every: str) -> None:
    setup = Setup(dropout=0.2)
    others: dict[str, Mapping[str, Any]] = {"sam": {}, "ema": {}}
    without = {technique_class(name): said for name, said in others.items()}
    assert difference(train(recipe(every, **others), setup), train(without, setup)) == 0


def test_no_time_is_refused() -> None:
    with pytest.raises(ValidationError, match="every is 0st and must be longer; to watch nothing, remove"):
        WatchConfig(every="0st")

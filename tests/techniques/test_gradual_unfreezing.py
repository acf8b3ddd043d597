"""Gradual unfreezing: fastai's two stages, block by block, and its own cycles."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from etude.core.engine import Engine
from etude.core.plan import Plan
from etude.core.technique import Context
from etude.errors import ConfigError
from etude.techniques import technique_class
from etude.techniques.groups.gradual_unfreezing import (
    GradualUnfreezing,
    GradualUnfreezingConfig,
    Stage,
    cycle_factor,
    depth_factor,
)
from etude.testing.harness import Setup, make_engine

LR = 0.01


def trained(settings: Mapping[str, Any], epochs: int = 2, **others: Mapping[str, Any]) -> tuple[Engine, Any]:
    """Train the transformer of four blocks and return the rates (steps, blocks), from the input on."""
    recipe = {GradualUnfreezing: settings, **{technique_class(name): said for name, said in others.items()}}
    engine = make_engine(recipe, Setup(epochs=epochs))
    engine.settings = replace(engine.settings, log_every=1)
    lines: list[Mapping[str, Any]] = []
    engine.attach_folder(log=lines.append, checkpoints=None)
    engine.fit()
    return engine, np.array([list(line["lr"].values()) for line in lines if "lr" in line])


def test_two_stages_of_fastai() -> None:
    """``fit_one_cycle(1, lr)`` on the head, then lr /= 2 and ``slice(lr/100, lr)`` over all blocks."""
    engine, rates = trained({})
    assert [group.frozen_until for group in engine.groups] == [3, 3, 3, 0]
    assert np.allclose(rates[:3, 3], LR)
    half = LR / 2
    even_mults = half / 100 * (100 ** (1 / 3)) ** np.arange(4)
    assert np.allclose(rates[3:], even_mults)
    assert np.allclose(rates[3:, [0, 3]], [half / 100, half])


def test_the_head_alone_trains_first() -> None:
    engine = make_engine({GradualUnfreezing: {}}, replace(Setup(), max_steps=3))
    before = {name: value.clone() for name, value in engine.backbone.state_dict().items()}
    engine.fit()
    after = engine.backbone.state_dict()
    moved = [name for name in after if not torch.equal(after[name], before[name])]
    assert moved == ["head.1.weight", "head.1.bias"]


def test_one_block_more_each_epoch_from_the_top() -> None:
    engine, _ = trained({"head": "1ep", "every": "1ep", "lowest": 1.0}, epochs=5)
    thaws = {block: group.frozen_until for group in engine.groups for block in group.blocks}
    assert thaws == {3: 0, 2: 3, 1: 6, 0: 9}


def test_blocks_whose_turn_does_not_come_rest() -> None:
    engine, _ = trained({"every": "1ep", "lowest": 1.0}, epochs=2)
    thaws = {block: group.frozen_until for group in engine.groups for block in group.blocks}
    assert thaws == {3: 0, 2: 3, 1: 6, 0: 6}


def test_units_may_be_mixed() -> None:
    engine, _ = trained({"head": "1ep", "every": "2st", "lowest": 1.0}, epochs=3)
    thaws = {block: group.frozen_until for group in engine.groups for block in group.blocks}
    assert thaws == {3: 0, 2: 3, 1: 5, 0: 7}


def test_stages_of_ones_own() -> None:
    stages = [{"start": "0st", "blocks": 2}, {"start": "4st", "blocks": 3, "factor": 0.1}]
    engine, rates = trained({"stages": stages, "lowest": 1.0})
    thaws = {block: group.frozen_until for group in engine.groups for block in group.blocks}
    assert thaws == {3: 0, 2: 0, 1: 4, 0: 6}
    assert np.allclose(rates[:4], LR)
    assert np.allclose(rates[4:], LR / 10)


def test_each_stage_may_have_a_cycle_in_place_of_the_schedule() -> None:
    _, rates = trained({"one_cycle": True}, linear={}, warmup={"duration": "2st"})
    expected = [cycle_factor(k / 3) * LR for k in range(3)] + [cycle_factor(k / 3) * LR / 2 for k in range(3)]
    assert np.allclose(rates[:, 3], expected)


def test_otherwise_the_schedule_goes_on() -> None:
    _, rates = trained({"lowest": 1.0}, linear={})
    assert np.allclose(rates[:, -1], LR * (1 - np.arange(6) / 6) * [1, 1, 1, 0.5, 0.5, 0.5])


def test_a_pooler_counts_as_a_part_of_the_head() -> None:
    engine, _ = trained({"every": "1ep", "lowest": 1.0}, epochs=5, attention_pooling={})
    thaws = {block: group.frozen_until for group in engine.groups for block in group.blocks}
    assert thaws == {4: 0, 3: 0, 2: 3, 1: 6, 0: 9}


def attach(context: Context, **settings: Any) -> Plan:
    plan = Plan(context)
    plan.attach(GradualUnfreezing(GradualUnfreezingConfig(**settings)))
    return plan


def test_all_at_once_at_one_rate_is_absent(tiny_context: Callable[..., Context]) -> None:
    assert attach(tiny_context(), head="0ep", factor=1.0, lowest=1.0).entries() == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"head": "3ep"}, "begins a stage at 3ep and the run has 3 epochs; raise train.epochs"),
        (
            {"stages": [Stage(start="1ep", blocks=1)]},
            "stages that start at 1ep, which is step 10 of this run; they must start at 0 and rise",
        ),
        (
            {"stages": [Stage(start="0ep"), Stage(start="1ep", blocks=1)]},
            "a stage with fewer blocks than the one before it; thaw only",
        ),
    ],
)
def test_stages_that_cannot_be_are_refused(
    settings: Mapping[str, Any], words: str, tiny_context: Callable[..., Context]
) -> None:
    with pytest.raises(ConfigError) as raised:
        attach(tiny_context(), **settings)
    assert words in str(raised.value)


def test_bounds_name_the_value() -> None:
    with pytest.raises(ValueError, match="depth is 4 and must lie in 0 to 3"):
        depth_factor(4, 4, 0.5)
    with pytest.raises(ValidationError, match="stages stand in place of head, every and factor"):
        GradualUnfreezingConfig(every="1ep", stages=[Stage(start="0ep")])
    with pytest.raises(ValidationError, match="every is 0ep and must be longer"):
        GradualUnfreezingConfig(every="0ep")
    with pytest.raises(ValidationError, match="stage 1: unknown key 'block'; did you mean 'blocks'"):
        GradualUnfreezingConfig(stages=[{"start": "0ep", "block": 1}])

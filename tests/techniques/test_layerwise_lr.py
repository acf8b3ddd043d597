"""Layer-wise learning rates through the real groups, and blocks whose names begin alike."""

from collections.abc import Callable

import pytest
import torch

from etude.core.groups import make_groups
from etude.core.phases import GROUPS, OptimizerSpec
from etude.core.plan import Plan
from etude.core.technique import Context
from etude.errors import ConflictError
from etude.techniques import technique_class
from etude.techniques.groups.layerwise_lr import LayerwiseLr, LayerwiseLrConfig, block_factor
from etude.testing.harness import Recipe, Setup, make_engine


def test_each_block_below_the_head_is_slower(tiny_context: Callable[..., Context]) -> None:
    context = tiny_context()
    plan = Plan(context)
    plan.attach(LayerwiseLr(LayerwiseLrConfig(decay=0.5)))
    spec = OptimizerSpec(0.4, 0.0, torch.optim.SGD)
    groups = make_groups(context.backbone, plan.many(GROUPS), spec, context)
    assert [(group.blocks, group.lr) for group in groups] == [({0}, 0.1), ({1}, 0.2), ({2}, 0.4)]


def test_block_1_is_not_block_10() -> None:
    assert block_factor(1, 12, 0.9) == pytest.approx(0.9**10)
    assert block_factor(10, 12, 0.9) == pytest.approx(0.9)


def test_decay_one_is_absent(tiny_context: Callable[..., Context]) -> None:
    plan = Plan(tiny_context())
    plan.attach(LayerwiseLr(LayerwiseLrConfig(decay=1.0)))
    assert plan.entries() == []


def test_rates_of_layers_that_never_train_are_refused() -> None:
    recipe: Recipe = {LayerwiseLr: {}, technique_class("freeze"): {"until": "1dur"}}
    with pytest.raises(
        ConflictError, match=r"layerwise_lr scales .* and freeze .* at rest for the whole run"
    ):
        make_engine(recipe, Setup())
    make_engine({LayerwiseLr: {}, technique_class("freeze"): {"until": "1ep"}}, Setup())
    make_engine(
        {LayerwiseLr: {}, technique_class("freeze"): {"until": "1dur", "only": "embeddings"}}, Setup()
    )
    make_engine({LayerwiseLr: {}, technique_class("lora"): {}}, Setup())


def test_bounds_name_the_value() -> None:
    with pytest.raises(ValueError, match="block is 3 and must lie in 0 to 2"):
        block_factor(3, 3, 0.9)

"""What rests and until when, through the real groups and the real freezer."""

from collections.abc import Callable

import pytest
import torch

from etude.core.groups import Freezer, make_groups
from etude.core.phases import GROUPS, OptimizerSpec
from etude.core.plan import Plan
from etude.core.technique import Context
from etude.techniques.groups.freeze import Freeze, FreezeConfig


def freezer(context: Context, **settings: str) -> Freezer:
    plan = Plan(context)
    plan.attach(Freeze(FreezeConfig(**settings)))
    spec = OptimizerSpec(0.1, 0.0, torch.optim.SGD)
    return Freezer(context.backbone, make_groups(context.backbone, plan.many(GROUPS), spec, context))


def training(context: Context) -> set[str]:
    return {name for name, value in context.backbone.named_parameters() if value.requires_grad}


def test_head_alone_for_one_epoch_then_all(tiny_context: Callable[..., Context]) -> None:
    context = tiny_context()
    frozen = freezer(context)
    frozen.apply(9)
    assert training(context) == {"head.weight", "head.bias"}
    assert frozen.only_head_trains()
    assert frozen.changes_at(10)
    frozen.apply(10)
    assert training(context) == {name for name, _ in context.backbone.named_parameters()}


def test_embeddings_alone_may_rest(tiny_context: Callable[..., Context]) -> None:
    context = tiny_context()
    freezer(context, only="embeddings").apply(0)
    assert {name for name, _ in context.backbone.named_parameters()} - training(context) == {
        "embeddings.weight"
    }


def test_whole_run_never_trains_the_backbone(tiny_context: Callable[..., Context]) -> None:
    context = tiny_context()
    freezer(context, until="1dur").apply(context.total_steps - 1)
    assert training(context) == {"head.weight", "head.bias"}


@pytest.mark.parametrize("until", ["0ep", "0st", "0dur"])
def test_no_time_is_absent(until: str, tiny_context: Callable[..., Context]) -> None:
    plan = Plan(tiny_context())
    plan.attach(Freeze(FreezeConfig(until=until)))
    assert plan.entries() == []

"""The head's learning rate through the real groups."""

from collections.abc import Callable

import pytest
import torch

from etude.core.groups import describe_parameters, make_groups
from etude.core.phases import GROUPS, OptimizerSpec
from etude.core.plan import Plan
from etude.core.technique import Context
from etude.techniques.groups.head_lr import HeadLr, HeadLrConfig, head_factor


def test_only_the_head_is_faster(tiny_context: Callable[..., Context]) -> None:
    context = tiny_context()
    plan = Plan(context)
    plan.attach(HeadLr(HeadLrConfig(factor=20.0)))
    spec = OptimizerSpec(0.1, 0.0, torch.optim.SGD)
    groups = make_groups(context.backbone, plan.many(GROUPS), spec, context)
    assert [(group.blocks, group.lr) for group in groups] == [({0, 1}, 0.1), ({2}, 2.0)]


def test_factor_one_is_absent(tiny_context: Callable[..., Context]) -> None:
    plan = Plan(tiny_context())
    plan.attach(HeadLr(HeadLrConfig(factor=1.0)))
    assert plan.entries() == []


def test_bounds_name_the_value(tiny_context: Callable[..., Context]) -> None:
    parameter = describe_parameters(tiny_context().backbone)[0]
    with pytest.raises(ValueError, match=r"factor is 0\.0 and must be above 0"):
        head_factor(parameter, 0.0)

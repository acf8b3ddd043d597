"""Clipping by value against torch's own, and infinite gradients, which it must not hide."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn

from etude.core.phases import GRADIENT
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Context
from etude.techniques import technique_class
from etude.techniques.gradient.clip_value import ClipValue, ClipValueConfig, clip_values
from etude.testing.harness import Recipe, Setup, make_engine


def parameters() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    values = [nn.Parameter(torch.zeros(n, dtype=torch.float64)) for n in (4, 7)]
    for value in values:
        value.grad = torch.randn(value.shape, generator=generator, dtype=torch.float64) * 3
    return [*values, nn.Parameter(torch.zeros(2))]


def test_equals_torchs_and_returns_the_norm_before() -> None:
    ours, theirs = parameters(), parameters()
    before = torch.cat([value.grad for value in ours if value.grad is not None])
    norm = clip_values(ours, 1.5)
    torch.nn.utils.clip_grad_value_(theirs, 1.5)
    assert norm.item() == pytest.approx(before.norm().item())
    for one, other in zip(ours, theirs, strict=True):
        if one.grad is None or other.grad is None:
            assert one.grad is other.grad is None
        else:
            assert torch.equal(one.grad, other.grad)
            assert one.grad.abs().max() <= 1.5


def test_an_infinite_gradient_leaves_the_step_out() -> None:
    """A cut turns infinity into a plain number, and the step would go on as if nothing were wrong."""

    class Infinite(ClipValue):
        def attach(self, plan: Plan) -> None:
            super().attach(plan)
            plan.add(GRADIENT, self.spoil, rank=-1)

        def spoil(self, params: Any, moment: Moment) -> None:
            params[0].grad.view(-1)[0] = torch.inf

    recipe: Recipe = {Infinite: {}}
    engine = make_engine(recipe, Setup())
    before = {name: value.clone() for name, value in engine.backbone.state_dict().items()}
    engine.fit()
    assert engine.step == 0
    assert engine.skipped == 6
    assert all(torch.equal(value, before[name]) for name, value in engine.backbone.state_dict().items())


def test_the_logged_norm_is_that_before_clipping(tiny_context: Any, moment: Moment) -> None:
    lines: list[Mapping[str, Any]] = []
    for recipe in ({}, {"clip": {"max_norm": 1e9}}):
        names: Mapping[str, Mapping[str, Any]] = {"clip_value": {"max_value": 1e-3}, **recipe}
        engine = make_engine({technique_class(name): said for name, said in names.items()}, Setup())
        engine.attach_folder(log=lines.append, checkpoints=None)
        engine.fit()
    norms = [line["grad_norm"] for line in lines if "grad_norm" in line]
    assert len(norms) == 4
    assert norms[:2] == pytest.approx(norms[2:])
    assert min(norms) > 0.05


def test_its_bound_reaches_the_gradient(tiny_context: Any, moment: Moment) -> None:
    context: Context = tiny_context()
    plan = Plan(context)
    plan.attach(ClipValue(ClipValueConfig(max_value=0.25)))
    (clip,) = plan.many(GRADIENT)
    params = parameters()
    clip(params, moment)
    assert params[0].grad is not None
    assert params[0].grad.abs().max() == 0.25


def test_bounds_name_the_value() -> None:
    with pytest.raises(ValueError, match=r"max_value is 0\.0 and must be above 0"):
        clip_values([], 0.0)

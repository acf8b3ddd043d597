"""Clipping against torch's clip_grad_norm_."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from etude.core.phases import GRADIENT
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Context
from etude.techniques.gradient.clip import Clip, ClipConfig, clip_gradients


def parameters() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    params = [nn.Parameter(torch.zeros(n)) for n in (3, 1, 100)]
    for value in params:
        value.grad = 5 * torch.randn(value.shape, generator=generator)
    return [*params, nn.Parameter(torch.zeros(2))]


@pytest.mark.parametrize("max_norm", [0.5, 1000.0])
def test_equals_torch(max_norm: float) -> None:
    ours, theirs = parameters(), parameters()
    norm = clip_gradients(ours, max_norm)
    assert torch.equal(norm, nn.utils.clip_grad_norm_(theirs, max_norm))
    for one, other in zip(ours[:3], theirs[:3], strict=True):
        assert torch.equal(one.grad, other.grad)
    assert ours[3].grad is None


def test_a_bound_out_of_reach_only_measures(tiny_context: Callable[..., Context], moment: Moment) -> None:
    plan = Plan(tiny_context())
    plan.attach(Clip(ClipConfig(max_norm=1e9)))
    params, before = parameters(), parameters()
    norm = plan.many(GRADIENT)[0](params, moment)
    assert norm is not None
    assert norm.item() == pytest.approx(torch.cat([p.grad for p in before[:3]]).norm().item())
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(params[:3], before[:3], strict=True))


def test_a_norm_that_is_not_finite_is_reported() -> None:
    params = parameters()
    params[0].grad[0] = float("nan")
    assert not clip_gradients(params, 1.0).isfinite()


def test_bounds_name_the_value() -> None:
    with pytest.raises(ValueError, match=r"max_norm is 0\.0 and must be above 0"):
        clip_gradients(parameters(), 0.0)

"""Gradient noise: its variance by the paper's formula, its draws, and where it stands."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from etude.core.phases import GRADIENT
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Context
from etude.techniques import technique_class
from etude.techniques.gradient.gradient_noise import (
    GradientNoise,
    GradientNoiseConfig,
    add_noise,
    noise_scale,
)
from etude.testing.harness import make


def parameter(n: int) -> nn.Parameter:
    value = nn.Parameter(torch.zeros(n, dtype=torch.float64))
    value.grad = torch.ones_like(value)
    return value


@pytest.mark.parametrize("eta", [0.01, 0.3, 1.0])
@pytest.mark.parametrize("step", [0, 1, 10, 10_000])
def test_variance_is_the_papers(eta: float, step: int) -> None:
    assert noise_scale(step, eta, 0.55) ** 2 == pytest.approx(eta / (1 + step) ** 0.55, rel=1e-12)


def test_noise_has_mean_zero_and_that_variance() -> None:
    value = parameter(200_000)
    add_noise([value], 0.3, torch.Generator().manual_seed(0))
    assert value.grad is not None
    noise = value.grad - 1.0
    assert noise.mean().item() == pytest.approx(0.0, abs=3e-3)
    assert noise.std().item() == pytest.approx(0.3, rel=1e-2)
    # Normal, not uniform: 4.55 % lie beyond two standard deviations.
    assert (noise.abs() > 0.6).double().mean().item() == pytest.approx(0.0455, abs=2e-3)


def test_draws_depend_on_the_step_and_on_nothing_else(tiny_context: Callable[..., Context]) -> None:
    plan = Plan(tiny_context())
    plan.attach(GradientNoise(GradientNoiseConfig(eta=1.0)))
    (change,) = plan.many(GRADIENT)

    def drawn(step: int, seed: int = 0) -> torch.Tensor:
        value, unused = parameter(5), nn.Parameter(torch.zeros(3))
        torch.rand(step + 1)
        assert change([unused, value], Moment(seed, step, 0, 10, 30)) is None
        assert unused.grad is None
        assert value.grad is not None
        return value.grad

    assert torch.equal(drawn(3), drawn(3))
    assert not torch.equal(drawn(3), drawn(4))
    assert not torch.equal(drawn(3), drawn(3, seed=1))


def test_it_stands_between_the_clippings(tiny_context: Callable[..., Context]) -> None:
    plan = Plan(tiny_context())
    for name in ("clip", "gradient_noise", "clip_value", "adaptive_clip"):
        plan.attach(make(technique_class(name), {}))
    order = [entry.technique for entry in plan.entries() if entry.phase is GRADIENT]
    assert order == ["adaptive_clip", "clip_value", "gradient_noise", "clip"]


def test_eta_zero_is_absent(tiny_context: Callable[..., Context]) -> None:
    plan = Plan(tiny_context())
    plan.attach(GradientNoise(GradientNoiseConfig(eta=0.0)))
    assert plan.entries() == []


@pytest.mark.parametrize(
    ("eta", "gamma", "named"), [(-1.0, 0.5, "eta is -1.0"), (1.0, -1.0, "gamma is -1.0")]
)
def test_bounds_name_the_value(eta: float, gamma: float, named: str) -> None:
    with pytest.raises(ValueError, match=f"{named} and must be 0 or more"):
        noise_scale(0, eta, gamma)

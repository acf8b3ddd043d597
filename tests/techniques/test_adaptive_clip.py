"""Adaptive clipping against another library, unit by unit, and with the head left out."""

import pytest
import torch
from pytorch_optimizer.optimizer import agc as their_agc
from torch import nn

from etude.core.rng import Moment
from etude.techniques import technique_class
from etude.techniques.gradient.adaptive_clip import AdaptiveClip, clip_units, unit_norms
from etude.testing.harness import Setup, make_engine

SHAPES = ((5,), (4, 3), (2, 3, 3), (6, 2, 3, 3))


def parameters(scale: float = 1.0) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    values = [nn.Parameter(torch.randn(s, generator=generator, dtype=torch.float64)) for s in SHAPES]
    for value in values:
        value.grad = torch.randn(value.shape, generator=generator, dtype=torch.float64) * scale
    return values


@pytest.mark.parametrize("scale", [1e-4, 0.02, 5.0])
def test_equals_another_librarys(scale: float) -> None:
    # Theirs takes the norm of a 3-dimensional tensor over one dimension only, where a unit has two.
    params = [value for value in parameters(scale) if value.dim() != 3]
    expected = [their_agc(p.detach(), p.grad, 1e-3, 0.01) for p in params if p.grad is not None]
    clip_units(params, 0.01)
    for value, reference in zip(params, expected, strict=True):
        assert value.grad is not None
        torch.testing.assert_close(value.grad, reference, rtol=0, atol=1e-12)


def test_each_unit_keeps_to_its_own_weights() -> None:
    params = parameters(5.0)
    directions = [torch.nn.functional.normalize(p.grad.flatten(1), dim=1) for p in params[1:]]
    clip_units(params, 0.01)
    for value, direction in zip(params[1:], directions, strict=True):
        assert value.grad is not None
        bound = 0.01 * value.detach().flatten(1).norm(dim=1)
        torch.testing.assert_close(value.grad.flatten(1).norm(dim=1), bound)
        torch.testing.assert_close(torch.nn.functional.normalize(value.grad.flatten(1), dim=1), direction)


def test_short_gradients_stay_bit_for_bit() -> None:
    params, before = parameters(1e-5), parameters(1e-5)
    clip_units([*params, nn.Parameter(torch.ones(2))], 0.01)
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(params, before, strict=True))


def test_units_of_zeros_can_still_move() -> None:
    value = nn.Parameter(torch.zeros(2, 2))
    value.grad = torch.ones(2, 2)
    clip_units([value], 0.1, eps=0.5)
    torch.testing.assert_close(unit_norms(value.grad).flatten(), torch.tensor([0.05, 0.05]))


def test_a_gradient_of_zeros_stays_zero() -> None:
    value = nn.Parameter(torch.ones(2, 2))
    value.grad = torch.zeros(2, 2)
    clip_units([value], 0.1)
    assert value.grad.abs().max() == 0


@pytest.mark.parametrize("head", ["zero_head", None])
def test_the_head_is_left_out(head: str | None) -> None:
    """Also where a technique of the model phase has touched it."""
    recipe = {technique_class("adaptive_clip"): {"clipping": 1e-6}}
    engine = make_engine(recipe if head is None else {**recipe, technique_class(head): {}}, Setup())
    technique = engine.plan.techniques["adaptive_clip"]
    assert isinstance(technique, AdaptiveClip)
    for value in engine.backbone.parameters():
        value.grad = torch.ones_like(value)
    params = list(engine.backbone.parameters())
    norm = technique.clip(params, Moment(0, 0, 0, 3, 6))
    assert norm.item() == pytest.approx(sum(p.numel() for p in params) ** 0.5)
    untouched = {n for n, p in engine.backbone.named_parameters() if bool((p.grad == 1).all())}
    assert untouched == {name for name, _ in engine.backbone.named_parameters() if name.startswith("head")}


@pytest.mark.parametrize(
    ("clipping", "eps", "named"), [(0.0, 1e-3, "clipping is 0.0"), (0.1, -1.0, "eps is -1.0")]
)
def test_bounds_name_the_value(clipping: float, eps: float, named: str) -> None:
    with pytest.raises(ValueError, match=f"{named} and must be above 0"):
        clip_units([], clipping, eps)

"""Adaptive SAM against its formula and another library, and what it must leave as it was."""

from collections.abc import Callable

import pytest
import pytorch_optimizer
import torch
from quadratic import Breaking, Quadratic
from torch import nn

from etude.core.phases import PERTURB
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Context
from etude.techniques.perturb.asam import ASAM, ASAMConfig, adaptive_sharpness_aware


def test_equals_the_papers_formula() -> None:
    quadratic = Quadratic()
    w, a = quadratic.whole().detach().clone(), quadratic.matrix
    loss = adaptive_sharpness_aware(quadratic, quadratic.params, 0.3, 0.01)
    t, g = w.abs() + 0.01, a @ w
    expected = a @ (w + 0.3 * t**2 * g / (t * g).norm())
    torch.testing.assert_close(quadratic.grads(), expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(loss, w @ a @ w / 2)
    assert quadratic.calls == 2


def test_without_eta_it_is_another_librarys_adaptive_sam() -> None:
    ours, theirs = Quadratic(), Quadratic()
    theirs()
    optimizer = pytorch_optimizer.SAM(theirs.params, torch.optim.SGD, lr=0.1, rho=0.5, adaptive=True)
    optimizer.step(theirs)
    mine = torch.optim.SGD(ours.params, lr=0.1)
    adaptive_sharpness_aware(ours, ours.params, 0.5, 0.0)
    mine.step()
    # Theirs takes its norm in float32.
    torch.testing.assert_close(ours.whole(), theirs.whole(), rtol=1e-6, atol=1e-6)


def test_its_point_does_not_depend_on_how_layers_share_their_scale() -> None:
    """The point of the paper: w1 · w2 is the same function of (c w1, w2 / c), and stays so uphill."""
    found = []
    for c in (1.0, 8.0):
        one, two = (nn.Parameter(torch.tensor(v, dtype=torch.float64)) for v in (2.0 * c, 3.0 / c))
        products = []

        def gradients(one: nn.Parameter = one, two: nn.Parameter = two, products: list[float] = products):
            one.grad = two.grad = None
            loss = (one * two - 1.0) ** 2
            products.append(float(one.detach() * two.detach()))
            loss.backward()
            return loss.detach()

        adaptive_sharpness_aware(gradients, [one, two], 0.4, 0.0)
        found.append(products[1])
    assert found[0] == pytest.approx(found[1], abs=1e-9)
    assert found[0] != pytest.approx(6.0)


@pytest.mark.parametrize("at", [1, 2])
def test_weights_come_back_bit_for_bit(at: int) -> None:
    for how in ("raise", "gradient", "loss"):
        quadratic = Breaking(at, how)
        before = quadratic.whole().detach().clone()
        if how == "raise":
            with pytest.raises(MemoryError):
                adaptive_sharpness_aware(quadratic, quadratic.params, 0.3, 0.01)
        else:
            loss = adaptive_sharpness_aware(quadratic, quadratic.params, 0.3, 0.01)
            # A second gradient that is infinite is the clipping's to see, a loss or a first one is ours.
            assert bool(loss.isfinite()) == (how == "gradient" and at == 2)
        assert torch.equal(quadratic.whole(), before)


def test_rho_zero_is_absent_and_others_act(tiny_context: Callable[..., Context], moment: Moment) -> None:
    plan = Plan(tiny_context())
    plan.attach(ASAM(ASAMConfig(rho=0.0)))
    assert plan.entries() == []
    plan.attach(ASAM(ASAMConfig()))
    perturb, quadratic = plan.one(PERTURB), Quadratic()
    assert perturb is not None
    perturb(quadratic, quadratic.params, moment)
    assert quadratic.calls == 2


@pytest.mark.parametrize(("rho", "eta", "named"), [(-1.0, 0.0, "rho is -1.0"), (0.5, -0.1, "eta is -0.1")])
def test_bounds_name_the_value(rho: float, eta: float, named: str) -> None:
    with pytest.raises(ValueError, match=f"{named} and must be 0 or more"):
        adaptive_sharpness_aware(Quadratic(), [], rho, eta)

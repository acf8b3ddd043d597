"""SAM against its formula on a quadratic, and what it must leave as it was."""

from collections.abc import Callable

import pytest
import torch
from quadratic import Breaking, Quadratic
from torch import Tensor, nn

from etude.core.phases import PERTURB
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Context
from etude.techniques.perturb.sam import SAM, SAMConfig, sharpness_aware


def test_equals_the_papers_formula() -> None:
    quadratic = Quadratic()
    w, a = quadratic.whole().detach().clone(), quadratic.matrix
    loss = sharpness_aware(quadratic, quadratic.params, 0.3)
    g = a @ w
    expected = a @ (w + 0.3 * g / g.norm())
    torch.testing.assert_close(quadratic.grads(), expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(loss, w @ a @ w / 2)
    assert quadratic.calls == 2


def test_a_whole_descent_equals_one_by_hand() -> None:
    quadratic, w = Quadratic(), Quadratic().whole().detach()
    optimizer = torch.optim.SGD(quadratic.params, lr=0.05)
    for _ in range(20):
        sharpness_aware(quadratic, quadratic.params, 0.1)
        optimizer.step()
        g = quadratic.matrix @ w
        w = w - 0.05 * quadratic.matrix @ (w + 0.1 * g / g.norm())
    torch.testing.assert_close(quadratic.whole().detach(), w, rtol=0, atol=1e-9)


def test_weights_come_back_bit_for_bit() -> None:
    quadratic = Quadratic()
    before = [p.detach().clone() for p in quadratic.params]
    sharpness_aware(quadratic, quadratic.params, 0.3)
    assert all(torch.equal(a, b) for a, b in zip(before, quadratic.params, strict=True))


def test_weights_come_back_where_the_second_pass_fails() -> None:
    quadratic = Quadratic()
    before = quadratic.whole().detach().clone()

    def gradients() -> Tensor:
        if quadratic.calls == 1:
            raise MemoryError("out of memory")
        return quadratic()

    with pytest.raises(MemoryError):
        sharpness_aware(gradients, quadratic.params, 0.3)
    assert torch.equal(quadratic.whole(), before)


def test_parameters_without_a_gradient_stay() -> None:
    quadratic, unused = Quadratic(), nn.Parameter(torch.ones(2))
    sharpness_aware(quadratic, [*quadratic.params, unused], 0.3)
    assert unused.grad is None
    assert torch.equal(unused, torch.ones(2))


def test_a_gradient_that_is_not_finite_ends_the_step() -> None:
    quadratic = Quadratic()
    before = quadratic.whole().detach().clone()

    def gradients() -> Tensor:
        loss = quadratic()
        quadratic.params[0].grad[0, 0] = float("inf")
        return loss

    assert not sharpness_aware(gradients, quadratic.params, 0.3).isfinite()
    assert quadratic.calls == 1
    assert torch.equal(quadratic.whole(), before)


def test_a_second_loss_that_is_not_finite_ends_the_step() -> None:
    quadratic = Breaking(2, "loss")
    before = quadratic.whole().detach().clone()
    assert not sharpness_aware(quadratic, quadratic.params, 0.3).isfinite()
    assert torch.equal(quadratic.whole(), before)


def test_rho_zero_is_absent_and_others_act(tiny_context: Callable[..., Context], moment: Moment) -> None:
    plan = Plan(tiny_context())
    plan.attach(SAM(SAMConfig(rho=0.0)))
    assert plan.entries() == []
    plan.attach(SAM(SAMConfig(rho=0.1)))
    perturb, quadratic = plan.one(PERTURB), Quadratic()
    assert perturb is not None
    perturb(quadratic, quadratic.params, moment)
    assert quadratic.calls == 2


def test_bounds_name_the_value() -> None:
    with pytest.raises(ValueError, match=r"rho is -1\.0 and must be 0 or more"):
        sharpness_aware(Quadratic(), [], -1.0)

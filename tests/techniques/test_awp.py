"""AWP against the popular form written out, its bounds, its start, and weights that come back."""

from typing import Any

import pytest
import torch
from quadratic import Breaking, Quadratic

from etude.core.phases import PERTURB
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Context
from etude.techniques import technique_class
from etude.techniques.perturb.awp import AWP, AWPConfig, perturbed_weights, uphill
from etude.testing.harness import Setup, train
from etude.testing.technique_suite import difference, split_difference


def test_equals_the_popular_form() -> None:
    quadratic = Quadratic()
    w, a = quadratic.whole().detach().clone(), quadratic.matrix
    loss = perturbed_weights(quadratic, quadratic.params, 0.4, 0.2)
    g, moved = a @ w, w.clone()
    step = 0.4 * g[:4] / g[:4].norm() * w[:4].norm()
    low, high = w[:4] - 0.2 * w[:4].abs(), w[:4] + 0.2 * w[:4].abs()
    moved[:4] = torch.minimum(torch.maximum(w[:4] + step, low), high)
    torch.testing.assert_close(quadratic.grads(), a @ moved, rtol=0, atol=1e-10)
    torch.testing.assert_close(loss, w @ a @ w / 2)
    assert quadratic.calls == 2


def test_no_weight_leaves_its_bound_and_the_norm_is_the_papers() -> None:
    weight = torch.randn(5, 4, dtype=torch.float64)
    grad = torch.randn(5, 4, dtype=torch.float64)
    free = uphill(weight, grad, 0.01, 1e9)
    assert float(free.norm()) == pytest.approx(0.01 * float(weight.norm()))
    cut = uphill(weight, grad, 0.5, 0.02)
    assert bool((cut.abs() <= 0.02 * weight.abs() + 1e-15).all())
    assert bool((cut.sign() == grad.sign()).all())
    assert uphill(weight, torch.zeros_like(grad), 0.5, 0.02).abs().max() == 0


@pytest.mark.parametrize("how", ["raise", "loss"])
def test_weights_come_back_bit_for_bit(how: str) -> None:
    quadratic = Breaking(2, how)
    before = quadratic.whole().detach().clone()
    if how == "raise":
        with pytest.raises(MemoryError):
            perturbed_weights(quadratic, quadratic.params, 0.3, 0.1)
    else:
        assert not perturbed_weights(quadratic, quadratic.params, 0.3, 0.1).isfinite()
    assert torch.equal(quadratic.whole(), before)


def test_before_its_start_a_step_is_plain(tiny_context: Any) -> None:
    context: Context = tiny_context()
    plan = Plan(context)
    plan.attach(AWP(AWPConfig(start="1ep")))
    perturb = plan.one(PERTURB)
    assert perturb is not None
    calls = []
    for step in (0, 9, 10, 29):
        quadratic = Quadratic()
        perturb(quadratic, quadratic.params, Moment(0, step, step // 10, 10, 30))
        calls.append(quadratic.calls)
    assert calls == [1, 1, 2, 2]


def test_a_start_at_the_end_of_the_run_is_as_without_it() -> None:
    awp = technique_class("awp")
    assert difference(train({awp: {"start": "1dur"}}, Setup()), train({}, Setup())) == 0
    assert difference(train({awp: {"start": "0ep"}}, Setup()), train({awp: {}}, Setup())) > 0


def test_accumulation_and_mixup_change_nothing() -> None:
    recipe = {technique_class("awp"): {"start": "0ep"}, technique_class("hidden_mixup"): {}}
    assert split_difference(recipe, Setup()) <= 1e-9


@pytest.mark.parametrize("settings", [{"adv_lr": 0.0}, {"adv_eps": 0.0}])
def test_nothing_to_move_is_absent(settings: dict[str, float], tiny_context: Any) -> None:
    plan = Plan(tiny_context())
    plan.attach(AWP(AWPConfig(**settings)))
    assert plan.entries() == []


def test_bounds_name_the_value() -> None:
    with pytest.raises(ValueError, match=r"adv_eps is -0\.1 and must be 0 or more"):
        uphill(torch.ones(2), torch.ones(2), 0.1, -0.1)

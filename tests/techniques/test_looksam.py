"""LookSAM: full steps are SAM's, the steps between add the orthogonal part, and a stop changes nothing."""

from collections.abc import Callable

import pytest
import pytorch_optimizer
import torch
from quadratic import Breaking, Quadratic
from torch import Tensor, nn

from etude.core.rng import Moment
from etude.techniques import technique_class
from etude.techniques.perturb.looksam import LookSAM, LookSAMConfig, add_direction, sharpness_direction
from etude.techniques.perturb.sam import sharpness_aware
from etude.testing.harness import Setup, train
from etude.testing.technique_suite import difference, resume_difference, split_difference


def at(step: int) -> Moment:
    return Moment(seed=0, step=step, epoch=0, steps_per_epoch=10, total_steps=30)


def test_a_full_step_is_sams_and_its_direction_is_orthogonal() -> None:
    ours, sams = Quadratic(), Quadratic()
    g = ours.matrix @ ours.whole().detach()
    loss, direction = sharpness_direction(ours, ours.params, 0.3)
    torch.testing.assert_close(loss, sharpness_aware(sams, sams.params, 0.3))
    torch.testing.assert_close(ours.grads(), sams.grads(), rtol=0, atol=1e-12)
    v = torch.cat([part.flatten() for part in direction])
    assert abs(float(v @ g)) < 1e-9
    s = ours.grads()
    torch.testing.assert_close(v, s - (s @ g) / (g @ g) * g, rtol=0, atol=1e-10)


def test_a_descent_equals_the_papers_algorithm() -> None:
    quadratic, w = Quadratic(), Quadratic().whole().detach()
    technique = LookSAM(LookSAMConfig(rho=0.2, k=3, alpha=0.7))
    optimizer = torch.optim.SGD(quadratic.params, lr=0.02)
    v = torch.zeros_like(w)
    for step in range(9):
        technique.perturb(quadratic, quadratic.params, at(step))
        optimizer.step()
        g = quadratic.matrix @ w
        if step % 3 == 0:
            s = quadratic.matrix @ (w + 0.2 * g / g.norm())
            v = s - s.norm() * (g @ s) / (g.norm() * s.norm()) * g / g.norm()
            w = w - 0.02 * s
        else:
            w = w - 0.02 * (g + 0.7 * g.norm() / v.norm() * v)
    torch.testing.assert_close(quadratic.whole().detach(), w, rtol=0, atol=1e-10)
    assert quadratic.calls == 9 + 3


def test_for_a_single_tensor_it_is_another_librarys() -> None:
    """Theirs takes norms for each tensor; with one tensor that is the paper's."""
    generator = torch.Generator().manual_seed(1)
    root = torch.randn(4, 4, generator=generator, dtype=torch.float64)
    start = torch.randn(4, generator=generator, dtype=torch.float64)

    def problem() -> tuple[nn.Parameter, Callable[[], Tensor]]:
        w = nn.Parameter(start.clone())

        def gradients() -> Tensor:
            w.grad = root @ root.T @ w.detach()
            return w.detach() @ w.grad / 2

        return w, gradients

    (ours, mine), (theirs, closure) = problem(), problem()
    technique, sgd = LookSAM(LookSAMConfig(rho=0.1, k=4)), torch.optim.SGD([ours], lr=0.01)
    optimizer = pytorch_optimizer.LookSAM([theirs], torch.optim.SGD, rho=0.1, k=4, alpha=0.7, lr=0.01)
    for step in range(10):
        technique.perturb(mine, [ours], at(step))
        sgd.step()
        closure()
        optimizer.step(closure)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-7)  # they add 1e-8 to a norm


def test_where_other_weights_train_a_full_step_is_taken() -> None:
    quadratic, technique = Quadratic(), LookSAM(LookSAMConfig(k=100))
    technique.perturb(quadratic, quadratic.params[1:], at(0))
    technique.perturb(quadratic, quadratic.params[1:], at(1))
    assert quadratic.calls == 3
    technique.perturb(quadratic, quadratic.params, at(2))
    assert quadratic.calls == 5


@pytest.mark.parametrize("how", ["gradient", "loss"])
def test_a_broken_full_step_is_seen(how: str) -> None:
    quadratic, technique = Breaking(1, how), LookSAM(LookSAMConfig(rho=0.1))
    before = quadratic.whole().detach().clone()
    assert not technique.perturb(quadratic, quadratic.params, at(0)).isfinite()
    assert torch.equal(quadratic.whole(), before)
    if how == "gradient":
        # Nothing was kept, so that the next step is a full one whatever its number is.
        assert technique.state_dict() == {}
        technique.perturb(quadratic, quadratic.params, at(1))
        assert quadratic.calls == 3


def test_every_step_full_is_sam() -> None:
    looksam, sam = technique_class("looksam"), technique_class("sam")
    setup = Setup(dropout=0.2)
    assert difference(train({looksam: {"k": 1, "rho": 0.05}}, setup), train({sam: {}}, setup)) < 1e-6


def test_accumulation_mixup_and_a_stop_between_full_steps_change_nothing() -> None:
    recipe = {technique_class("looksam"): {"k": 3}, technique_class("hidden_mixup"): {}}
    assert split_difference(recipe, Setup()) <= 1e-9
    assert resume_difference(recipe, Setup(dropout=0.2), step=4) == 0


def test_a_direction_of_zero_adds_nothing() -> None:
    grads = [torch.tensor([3.0, 4.0])]
    add_direction(grads, [torch.zeros(2)], 0.7)
    assert grads[0].tolist() == [3.0, 4.0]


def test_bounds_name_the_value() -> None:
    with pytest.raises(ValueError, match=r"rho is -1\.0 and must be 0 or more"):
        sharpness_direction(Quadratic(), [], -1.0)

"""One cycle: the cosine form against torch's OneCycleLR step by step, the linear halves by hand."""

from collections.abc import Callable

import pytest
import torch
from pydantic import ValidationError

from etude.core.phases import SCHEDULE, TUNE
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Context
from etude.errors import ConflictError
from etude.techniques.schedules.one_cycle import (
    OneCycle,
    OneCycleConfig,
    cosine_cycle,
    linear_halves,
    set_momentum,
)


@pytest.mark.parametrize("pct_start", [0.25, 0.3])
def test_cosine_form_equals_torch_at_every_step(pct_start: float) -> None:
    n = 40
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1.0, total_steps=n, pct_start=pct_start, cycle_momentum=False,
        div_factor=25.0, final_div_factor=4000.0,
    )  # fmt: skip
    # torch ends at its last step, one before the run's end, and its rise is one step shorter.
    rise = (pct_start * n - 1) / (n - 1)
    for step in range(n):
        ours = cosine_cycle(step / (n - 1), rise, div=25.0, final_div=25.0 * 4000.0)
        assert ours == pytest.approx(theirs.get_last_lr()[0], abs=1e-12)
        if step < n - 1:
            optimizer.step()
            theirs.step()


def test_linear_halves_rise_and_fall_by_equal_steps() -> None:
    factors = torch.tensor([linear_halves(step / 20, 10.0) for step in range(21)], dtype=torch.float64)
    slopes = factors.diff()
    torch.testing.assert_close(slopes, torch.tensor([0.09] * 10 + [-0.09] * 10, dtype=torch.float64))
    assert (factors[0], factors[10], factors[20]) == (0.1, 1.0, 0.1)


def test_the_plan_gets_the_chosen_shape(tiny_context: Callable[..., Context]) -> None:
    for shape, end in (("cosine", 1e-5), ("linear_halves", 0.04)):
        plan = Plan(tiny_context())
        plan.attach(OneCycle(OneCycleConfig(shape=shape)))
        factor = plan.one(SCHEDULE)
        assert factor is not None
        assert (factor(0.0), factor(1.0)) == (pytest.approx(0.04), pytest.approx(end))


def test_settings_of_the_other_shape_are_refused() -> None:
    with pytest.raises(ValidationError, match="takes neither pct_start nor final_div; remove them or use"):
        OneCycleConfig(shape="linear_halves", pct_start=0.3)


def test_bounds_name_the_value() -> None:
    with pytest.raises(ValueError, match=r"progress is 1.01 and must lie in \[0, 1\]"):
        cosine_cycle(1.01, 0.25, 25.0, 1e5)
    with pytest.raises(ValueError, match=r"progress is -1 and must lie in \[0, 1\]"):
        linear_halves(-1, 25.0)


def test_momentum_falls_while_the_rate_rises_and_comes_back(tiny_context: Callable[..., Context]) -> None:
    for shape, pct_start in (("cosine", 0.25), ("linear_halves", 0.5)):
        plan = Plan(tiny_context())
        plan.attach(OneCycle(OneCycleConfig(shape=shape, momentum=(0.95, 0.85))))
        (tune,) = plan.many(TUNE)
        groups = [{"betas": (0.9, 0.999)}, {"momentum": 0.9}]
        found = []
        for step in (0, round(100 * pct_start), 100):
            tune(groups, Moment(0, step, 0, 10, 100))
            found.append(groups[1]["momentum"])
            assert groups[0]["betas"] == (found[-1], 0.999)
        assert found == pytest.approx([0.95, 0.85, 0.95])


def test_an_optimizer_without_momentum_is_refused() -> None:
    with pytest.raises(ConflictError, match=r"one_cycle.momentum is given and the optimizer has no momentum"):
        set_momentum([{"lr": 0.1}], 0.9)

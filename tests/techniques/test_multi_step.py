"""Milestones in epochs, steps and shares; Goyal's recipe for images."""

from collections.abc import Callable

import pytest
from pydantic import ValidationError

from etude.core.plan import Plan
from etude.core.rates import Rates
from etude.core.technique import Context
from etude.errors import ConfigError
from etude.techniques.schedules.multi_step import MultiStep, MultiStepConfig, multi_step_factor
from etude.techniques.schedules.warmup import Warmup, WarmupConfig


def rates_of(context: Context, milestones: list[str], warmup: str = "0st") -> Rates:
    plan = Plan(context)
    plan.attach(MultiStep(MultiStepConfig(milestones=milestones)))
    plan.attach(Warmup(WarmupConfig(duration=warmup)))
    return Rates(plan, context.total_steps)


def test_recipe_of_goyal_et_al(tiny_context: Callable[..., Context]) -> None:
    """90 epochs, 5 of them of warm-up, and 1/10 at epochs 30, 60 and 80 of the run."""
    context = tiny_context(epoch_steps=(10,) * 90, total_steps=900)
    rates = rates_of(context, ["30ep", "60ep", "80ep"], warmup="5ep")
    found = [rates.factor(10 * epoch) for epoch in (1, 5, 29, 30, 59, 60, 79, 80, 89)]
    assert found == pytest.approx([0.2, 1, 1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_units_may_be_mixed(tiny_context: Callable[..., Context]) -> None:
    rates = rates_of(tiny_context(), ["8st", "0.5dur", "2ep"])
    found = [round(rates.factor(step), 6) for step in (7, 8, 14, 15, 19, 20)]
    assert found == [1, 0.1, 0.1, 0.01, 0.01, 0.001]


def test_milestones_out_of_order_are_refused(tiny_context: Callable[..., Context]) -> None:
    with pytest.raises(
        ConfigError, match=r"milestones are 2ep, 0.5dur, which is step 20, 15 of this run, and must rise"
    ):
        rates_of(tiny_context(), ["2ep", "0.5dur"])
    with pytest.raises(ValueError, match=r"milestones are \[3, 2\] and must rise"):
        multi_step_factor(1, [3, 2], 0.1)
    with pytest.raises(ValidationError, match="at least 1 item"):
        MultiStepConfig(milestones=[])

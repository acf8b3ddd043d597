"""Step decay: by steps, by epochs of unequal length, by shares of the run, and with a warm-up."""

from collections.abc import Callable

import pytest
from pydantic import ValidationError

from etude.core.plan import Plan
from etude.core.rates import Rates
from etude.core.technique import Context
from etude.techniques.schedules.step_decay import StepDecay, StepDecayConfig, step_factor
from etude.techniques.schedules.warmup import Warmup, WarmupConfig


def falls(context: Context, every: str, *, warmup: str = "0st") -> list[int]:
    """The steps at which the rate falls."""
    plan = Plan(context)
    plan.attach(StepDecay(StepDecayConfig(every=every, gamma=0.5)))
    plan.attach(Warmup(WarmupConfig(duration=warmup)))
    rates = Rates(plan, context.total_steps)
    factors = [rates.factor(step) for step in range(context.total_steps)]
    return [step for step in range(1, len(factors)) if factors[step] < factors[step - 1]]


@pytest.mark.parametrize(
    ("every", "steps"), [("7st", [7, 14, 21, 28]), ("1ep", [10, 20]), ("0.5dur", [15]), ("2ep", [20])]
)
def test_the_unit_of_every_is_the_unit_of_the_falls(
    every: str, steps: list[int], tiny_context: Callable[..., Context]
) -> None:
    assert falls(tiny_context(), every) == steps


def test_falls_lie_at_the_ends_of_epochs_of_any_length(tiny_context: Callable[..., Context]) -> None:
    context = tiny_context(epoch_steps=(12, 6, 3, 9), total_steps=30)
    assert falls(context, "1ep") == [12, 18, 21]


def test_a_warmup_does_not_move_the_falls(tiny_context: Callable[..., Context]) -> None:
    assert falls(tiny_context(), "1ep", warmup="5st") == [10, 20]


def test_a_period_of_less_than_a_step_is_a_step(tiny_context: Callable[..., Context]) -> None:
    assert falls(tiny_context(total_steps=3), "0.01dur") == [1, 2]


def test_gamma_one_is_absent(tiny_context: Callable[..., Context]) -> None:
    plan = Plan(tiny_context())
    plan.attach(StepDecay(StepDecayConfig(gamma=1.0)))
    assert plan.entries() == []


def test_bounds_name_the_value() -> None:
    with pytest.raises(ValueError, match=r"gamma is 1.5 and must lie in \(0, 1\]"):
        step_factor(3, [1], 1.5)
    with pytest.raises(ValidationError, match="every is 0ep and must be longer; for no decay, use constant"):
        StepDecayConfig(every="0ep")

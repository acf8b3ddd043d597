"""Restarts where they should be: by steps, by epochs of unequal length, after a warm-up."""

from collections.abc import Callable

import pytest
from pydantic import ValidationError

from etude.core.plan import Plan
from etude.core.rates import Rates
from etude.core.technique import Context
from etude.techniques.schedules.cosine_restarts import (
    CosineRestarts,
    CosineRestartsConfig,
    cosine_restarts,
)
from etude.techniques.schedules.warmup import Warmup, WarmupConfig


def restarts(context: Context, first: str, growth: float = 1.0, warmup: str = "0st") -> list[int]:
    plan = Plan(context)
    plan.attach(CosineRestarts(CosineRestartsConfig(first=first, growth=growth)))
    plan.attach(Warmup(WarmupConfig(duration=warmup)))
    rates = Rates(plan, context.total_steps)
    rise = context.steps(WarmupConfig(duration=warmup).duration)
    return [step for step in range(rise, context.total_steps) if rates.factor(step) == 1.0]


def test_cycles_grow_as_in_the_paper(tiny_context: Callable[..., Context]) -> None:
    """T_0 = 1 epoch and T_mult = 2: restarts after epochs 1, 3 and 7."""
    context = tiny_context(epoch_steps=(10,) * 15, total_steps=150)
    assert restarts(context, "1ep", 2.0) == [0, 10, 30, 70]


def test_epochs_may_be_of_any_length(tiny_context: Callable[..., Context]) -> None:
    context = tiny_context(epoch_steps=(12, 6, 3, 9), total_steps=30)
    assert restarts(context, "1ep") == [0, 12, 18, 21]


def test_shares_are_of_what_the_warmup_leaves(tiny_context: Callable[..., Context]) -> None:
    assert restarts(tiny_context(), "0.25dur", warmup="10st") == [10, 15, 20, 25]


def test_a_cycle_of_less_than_a_step_is_a_step(tiny_context: Callable[..., Context]) -> None:
    assert restarts(tiny_context(total_steps=4), "0.1dur") == [0, 1, 2, 3]


def test_bounds_name_the_value() -> None:
    with pytest.raises(ValueError, match=r"step is 31 and must lie in \[0, 30\]"):
        cosine_restarts(31, [0, 10, 30])
    with pytest.raises(ValidationError, match="first is 0dur and must be longer; for one cycle, use cosine"):
        CosineRestartsConfig(first="0dur")

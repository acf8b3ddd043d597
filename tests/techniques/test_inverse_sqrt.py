"""The inverse square root: with a warm-up of the same length it is the transformer's own schedule."""

from collections.abc import Callable

import pytest
from pydantic import ValidationError

from etude.core.plan import Plan
from etude.core.rates import Rates
from etude.core.technique import Context
from etude.techniques.schedules.inverse_sqrt import InverseSqrt, InverseSqrtConfig, inverse_sqrt
from etude.techniques.schedules.warmup import Warmup, WarmupConfig


def test_equals_equation_3_of_vaswani_et_al(tiny_context: Callable[..., Context]) -> None:
    """The rate is d^-0.5 min(k^-0.5, k w^-1.5), which peaks at d^-0.5 w^-0.5."""
    context = tiny_context(total_steps=60)
    plan = Plan(context)
    plan.attach(InverseSqrt(InverseSqrtConfig(timescale="8st")))
    plan.attach(Warmup(WarmupConfig(duration="8st")))
    rates = Rates(plan, 60)
    for k in range(1, 60):
        assert rates.factor(k) == pytest.approx(min(k**-0.5, k * 8**-1.5) / 8**-0.5, abs=1e-12)


def test_bounds_name_the_value() -> None:
    with pytest.raises(ValueError, match="step is -1 and timescale 5; they must be at least 0 and above 0"):
        inverse_sqrt(-1, 5)
    with pytest.raises(ValidationError, match="timescale is 0st and must be longer"):
        InverseSqrtConfig(timescale="0st")

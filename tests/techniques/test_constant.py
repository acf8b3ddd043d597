"""The constant schedule, at every step and out of bounds."""

from collections.abc import Callable

import pytest

from etude.core.phases import SCHEDULE
from etude.core.plan import Plan
from etude.core.technique import Context
from etude.techniques.schedules.constant import Constant, ConstantConfig, constant


def test_is_one_at_every_step(tiny_context: Callable[..., Context]) -> None:
    plan = Plan(tiny_context())
    plan.attach(Constant(ConstantConfig()))
    factor = plan.one(SCHEDULE)
    assert factor is not None
    assert {factor(step / 30) for step in range(30)} == {1.0}


def test_bounds_name_the_value() -> None:
    with pytest.raises(ValueError, match=r"progress is 1.5 and must lie in \[0, 1\]"):
        constant(1.5)

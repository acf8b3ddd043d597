"""The linear schedule against transformers', step by step."""

from collections.abc import Callable

import pytest
import torch
from transformers import get_linear_schedule_with_warmup

from etude.core.phases import SCHEDULE
from etude.core.plan import Plan
from etude.core.technique import Context
from etude.techniques.schedules.linear import Linear, LinearConfig, linear_decay


def test_equals_transformers_at_every_step(tiny_context: Callable[..., Context]) -> None:
    plan = Plan(tiny_context())
    plan.attach(Linear(LinearConfig()))
    factor = plan.one(SCHEDULE)
    assert factor is not None
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = get_linear_schedule_with_warmup(optimizer, 0, 30)
    for step in range(30):
        assert factor(step / 30) == pytest.approx(theirs.get_last_lr()[0], abs=1e-15)
        optimizer.step()
        theirs.step()


def test_bounds_name_the_value() -> None:
    with pytest.raises(ValueError, match=r"progress is -0.1 and must lie in \[0, 1\]"):
        linear_decay(-0.1)

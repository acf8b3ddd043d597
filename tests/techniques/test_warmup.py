"""Warm-up in front of the linear schedule against transformers', step by step."""

from collections.abc import Callable

import pytest
import torch
from transformers import get_linear_schedule_with_warmup

from etude.core.phases import WARMUP
from etude.core.plan import Plan
from etude.core.technique import Context
from etude.techniques.schedules.linear import linear_decay
from etude.techniques.schedules.warmup import Warmup, WarmupConfig, linear_rise


def test_with_linear_decay_it_equals_transformers(tiny_context: Callable[..., Context]) -> None:
    plan = Plan(tiny_context())
    plan.attach(Warmup(WarmupConfig(duration="6st")))
    rise = plan.one(WARMUP)
    assert rise is not None
    w, total = plan.context.steps(rise.duration), 30
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = get_linear_schedule_with_warmup(optimizer, w, total)
    for step in range(total):
        ours = rise.factor(step / w) if step < w else linear_decay((step - w) / (total - w))
        assert ours == pytest.approx(theirs.get_last_lr()[0], abs=1e-15)
        optimizer.step()
        theirs.step()


def test_default_is_a_tenth_of_the_run(tiny_context: Callable[..., Context]) -> None:
    plan = Plan(tiny_context())
    plan.attach(Warmup(WarmupConfig()))
    rise = plan.one(WARMUP)
    assert rise is not None
    assert plan.context.steps(rise.duration) == 3


def test_no_duration_is_no_warmup(tiny_context: Callable[..., Context]) -> None:
    plan = Plan(tiny_context())
    plan.attach(Warmup(WarmupConfig(duration="0ep")))
    assert plan.entries() == []


def test_bounds_name_the_value() -> None:
    with pytest.raises(ValueError, match=r"start is 1.0 and must lie in \[0, 1\)"):
        linear_rise(0.5, start=1.0)
    with pytest.raises(ValueError, match=r"share is 2.0 and must lie in \[0, 1\]"):
        linear_rise(2.0)

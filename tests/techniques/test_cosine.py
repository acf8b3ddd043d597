"""The cosine schedule against torch's, step by step."""

from collections.abc import Callable

import pytest
import torch

from etude.core.phases import SCHEDULE
from etude.core.plan import Plan
from etude.core.technique import Context
from etude.techniques.schedules.cosine import Cosine, CosineConfig, half_cosine


@pytest.mark.parametrize("final", [0.0, 0.1])
def test_equals_torch_at_every_step(final: float, tiny_context: Callable[..., Context]) -> None:
    plan = Plan(tiny_context())
    plan.attach(Cosine(CosineConfig(final=final)))
    factor = plan.one(SCHEDULE)
    assert factor is not None
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=30, eta_min=final)
    for step in range(31):
        assert factor(step / 30) == pytest.approx(theirs.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        theirs.step()


def test_final_one_is_constant() -> None:
    assert {half_cosine(step / 10, final=1.0) for step in range(11)} == {1.0}


def test_bounds_name_the_value() -> None:
    with pytest.raises(ValueError, match=r"final is 2.0 and must lie in \[0, 1\]"):
        half_cosine(0.5, final=2.0)

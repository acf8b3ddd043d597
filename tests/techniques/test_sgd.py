"""SGD against its formula in float64, with and without Nesterov's look-ahead."""

from collections.abc import Callable

import pytest
import torch
from pydantic import ValidationError

from etude.core.phases import OPTIMIZER
from etude.core.plan import Plan
from etude.core.technique import Context
from etude.techniques.optimizers.sgd import SGD, SGDConfig, make_sgd


@pytest.mark.parametrize("nesterov", [False, True])
def test_equals_the_formula(nesterov: bool) -> None:
    lr, decay, momentum = 0.1, 0.01, 0.9
    w = torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    groups = [{"params": [w], "lr": lr, "weight_decay": decay}]
    optimizer = make_sgd(groups, momentum, nesterov=nesterov)
    expected, velocity = w.detach().clone(), torch.zeros(2).double()
    for _ in range(5):
        g = expected**3 + decay * expected
        w.grad = w.detach() ** 3
        optimizer.step()
        velocity = momentum * velocity + g
        expected = expected - lr * (g + momentum * velocity if nesterov else velocity)
        torch.testing.assert_close(w.detach(), expected, rtol=0, atol=1e-12)


def test_nesterov_needs_momentum() -> None:
    with pytest.raises(ValidationError, match="nesterov = true needs a momentum above 0; set momentum"):
        SGDConfig(nesterov=True, momentum=0.0)


def test_the_plan_gets_the_fused_kernel(tiny_context: Callable[..., Context]) -> None:
    plan = Plan(tiny_context())
    plan.attach(SGD(SGDConfig(lr=0.1)))
    spec = plan.one(OPTIMIZER)
    assert spec is not None
    made = spec.make([{"params": list(plan.context.backbone.parameters()), "lr": 0.1, "weight_decay": 0.0}])
    assert (made.param_groups[0]["fused"], made.param_groups[0]["momentum"]) == (True, 0.9)

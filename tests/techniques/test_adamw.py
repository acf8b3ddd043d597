"""AdamW against the paper's algorithm 2 in float64, and the fused kernel against the plain one."""

from collections.abc import Callable

import pytest
import torch
from pydantic import ValidationError

from etude.core.phases import OPTIMIZER
from etude.core.plan import Plan
from etude.core.technique import Context
from etude.techniques.optimizers.adamw import AdamW, AdamWConfig, make_adamw


def test_equals_algorithm_2_of_the_paper() -> None:
    lr, decay, (beta1, beta2), eps = 0.05, 0.2, (0.8, 0.95), 1e-6
    w = torch.nn.Parameter(torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64))
    optimizer = make_adamw([{"params": [w], "lr": lr, "weight_decay": decay}], (beta1, beta2), eps)
    expected, m, v = w.detach().clone(), torch.zeros(3).double(), torch.zeros(3).double()
    for t in range(1, 6):
        g = torch.sin(expected) * t
        w.grad = torch.sin(w.detach()) * t
        optimizer.step()
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
        step = m / (1 - beta1**t) / ((v / (1 - beta2**t)).sqrt() + eps)
        expected = (1 - lr * decay) * expected - lr * step
        torch.testing.assert_close(w.detach(), expected, rtol=0, atol=1e-12)


def test_decay_is_decoupled_from_the_gradient() -> None:
    w = torch.nn.Parameter(torch.tensor([2.0]))
    w.grad = torch.zeros(1)
    make_adamw([{"params": [w], "lr": 0.1, "weight_decay": 0.5}], (0.9, 0.999), 1e-8).step()
    assert w.item() == pytest.approx(2.0 * (1 - 0.1 * 0.5))


def test_the_plan_gets_the_fused_kernel_and_the_groups_as_they_are(
    tiny_context: Callable[..., Context],
) -> None:
    plan = Plan(tiny_context())
    plan.attach(AdamW(AdamWConfig(lr=3e-4, weight_decay=0.1)))
    spec = plan.one(OPTIMIZER)
    assert spec is not None
    assert (spec.lr, spec.weight_decay) == (3e-4, 0.1)
    params = list(plan.context.backbone.parameters())
    optimizer = spec.make([{"params": params, "lr": 1.0, "weight_decay": 0.0, "base_lr": 1.0, "name": "g"}])
    group = optimizer.param_groups[0]
    assert isinstance(optimizer, torch.optim.AdamW)
    assert (group["fused"], group["lr"], group["name"], group["weight_decay"]) == (True, 1.0, "g", 0.0)


def test_bounds() -> None:
    with pytest.raises(ValidationError, match="greater than 0"):
        AdamWConfig(lr=0.0)
    with pytest.raises(ValidationError, match="less than 1"):
        AdamWConfig(betas=(0.9, 1.0))

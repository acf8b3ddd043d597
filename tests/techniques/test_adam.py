"""Adam against the paper's algorithm 1 with an L2 penalty, and what distinguishes it from AdamW."""

from collections.abc import Callable

import torch

from etude.core.phases import OPTIMIZER
from etude.core.plan import Plan
from etude.core.technique import Context
from etude.techniques.optimizers.adam import Adam, AdamConfig, make_adam
from etude.techniques.optimizers.adamw import make_adamw


def test_equals_algorithm_1_with_the_penalty_in_the_gradient() -> None:
    lr, decay, (beta1, beta2), eps = 0.05, 0.2, (0.8, 0.95), 1e-6
    w = torch.nn.Parameter(torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64))
    optimizer = make_adam([{"params": [w], "lr": lr, "weight_decay": decay}], (beta1, beta2), eps)
    expected, m, v = w.detach().clone(), torch.zeros(3).double(), torch.zeros(3).double()
    for t in range(1, 6):
        g = torch.sin(expected) * t + decay * expected
        w.grad = torch.sin(w.detach()) * t
        optimizer.step()
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
        expected = expected - lr * m / (1 - beta1**t) / ((v / (1 - beta2**t)).sqrt() + eps)
        torch.testing.assert_close(w.detach(), expected, rtol=0, atol=1e-12)


def test_without_decay_it_is_adamw() -> None:
    ends = []
    for make in (make_adam, make_adamw):
        w = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
        optimizer = make([{"params": [w], "lr": 0.1, "weight_decay": 0.0}], (0.9, 0.999), 1e-8)
        for _ in range(5):
            w.grad = w.detach() ** 3
            optimizer.step()
        ends.append(w.detach())
    assert torch.equal(*ends)


def test_default_has_no_penalty(tiny_context: Callable[..., Context]) -> None:
    plan = Plan(tiny_context())
    plan.attach(Adam(AdamConfig()))
    spec = plan.one(OPTIMIZER)
    assert spec is not None
    assert spec.weight_decay == 0.0
    made = spec.make([{"params": list(plan.context.backbone.parameters()), "lr": 1e-4, "weight_decay": 0.0}])
    assert type(made) is torch.optim.Adam
    assert made.param_groups[0]["fused"] is True

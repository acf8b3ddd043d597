"""Prodigy: its estimate, its own rates for groups, and the library's result where that has one rate."""

from typing import Any

import pytest
import torch
from pytorch_optimizer import Prodigy as TheirProdigy

from etude.techniques.optimizers.prodigy import ProdigyOptimizer, make_prodigy


def groups_of(*weights: torch.nn.Parameter, lrs: tuple[float, ...] = (1.0,)) -> list[dict[str, Any]]:
    lrs = lrs * len(weights) if len(lrs) == 1 else lrs
    return [{"params": [w], "lr": lr, "weight_decay": 0.1} for w, lr in zip(weights, lrs, strict=True)]


def descend(optimizer: torch.optim.Optimizer, weights: list[torch.nn.Parameter], n: int) -> None:
    """Steps towards the minimum at 3 of a sum of squares with different curvatures."""
    for _ in range(n):
        for i, w in enumerate(weights):
            w.grad = (w.detach() - 3.0) * 10.0**i
        optimizer.step()


def test_equals_the_library_where_there_is_one_rate() -> None:
    mine, theirs = ([torch.nn.Parameter(torch.zeros(3)) for _ in range(2)] for _ in range(2))
    optimizer = make_prodigy(groups_of(*mine), (0.9, 0.999), 1e-8, d0=1e-3, d_coef=1.0)
    reference = TheirProdigy(groups_of(*theirs), betas=(0.9, 0.999), eps=1e-8, d0=1e-3)
    descend(optimizer, mine, 30)
    descend(reference, theirs, 30)
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert optimizer.distance == pytest.approx(reference.param_groups[0]["d"], rel=1e-4)
    assert optimizer.distance > 0.01


def test_the_estimate_only_grows_and_finds_the_way() -> None:
    w = torch.nn.Parameter(torch.zeros(5))
    groups = [{"params": [w], "lr": 1.0, "weight_decay": 0.0}]
    optimizer = make_prodigy(groups, (0.9, 0.99), 1e-8, d0=1e-6, d_coef=1.0)
    seen = [optimizer.distance]
    for _ in range(150):
        descend(optimizer, [w], 1)
        seen.append(optimizer.distance)
    assert seen == sorted(seen)
    assert seen[0] == 1e-6
    assert 0.03 < seen[-1] < 3.0
    assert (w - 3.0).abs().max() < 0.5


def test_groups_have_rates_of_their_own() -> None:
    weights = [torch.nn.Parameter(torch.zeros(2)) for _ in range(2)]
    groups = groups_of(*weights, lrs=(1.0, 0.0))
    descend(make_prodigy(groups, (0.9, 0.999), 1e-8, d0=1e-3, d_coef=1.0), weights, 5)
    assert weights[0].abs().min() > 0
    assert torch.equal(weights[1].detach(), torch.zeros(2))


def test_a_safeguard_keeps_a_warm_up_from_inflating_the_estimate() -> None:
    found = []
    for safeguard in (False, True):
        w = torch.nn.Parameter(torch.zeros(2))
        optimizer = ProdigyOptimizer(groups_of(w), d0=1e-3, safeguard_warmup=safeguard)
        for t in range(10):
            optimizer.param_groups[0]["lr"] = t / 10
            descend(optimizer, [w], 1)
        found.append(optimizer.distance)
    assert found[1] < found[0]


def test_steps_without_gradients_change_nothing() -> None:
    w = torch.nn.Parameter(torch.ones(2))
    optimizer = ProdigyOptimizer(groups_of(w))
    optimizer.step()
    assert torch.equal(w.detach(), torch.ones(2))
    assert optimizer.distance == 1e-6

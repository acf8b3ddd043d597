"""Ranger: RAdam's steps between two draws back, never uphill, and centralised gradients."""

from typing import Any

import pytest
import torch
from pydantic import ValidationError

from etude.techniques.optimizers.radam import make_radam
from etude.techniques.optimizers.ranger import RangerConfig, make_ranger


def walk(optimizer: torch.optim.Optimizer, w: torch.nn.Parameter, n: int) -> list[torch.Tensor]:
    points = []
    for t in range(n):
        w.grad = torch.tensor([1.0, -3.0], dtype=torch.float64) * (t + 1)
        optimizer.step()
        points.append(w.detach().clone())
    return points


def weight() -> tuple[torch.nn.Parameter, list[dict[str, Any]]]:
    w = torch.nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.float64))
    return w, [{"params": [w], "lr": 0.01, "weight_decay": 0.1}]


def test_it_is_radam_until_it_is_drawn_back_half_way() -> None:
    w, groups = weight()
    plain = walk(make_radam(groups, (0.95, 0.999), 1e-5), w, 6)
    w, groups = weight()
    start = w.detach().clone()
    found = walk(make_ranger(groups, (0.95, 0.999), 1e-5, k=6, alpha=0.5), w, 6)
    for mine, theirs in zip(found[:5], plain[:5], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12)
    torch.testing.assert_close(found[5], (start + plain[5]) / 2, rtol=0, atol=1e-12)


def test_the_first_steps_go_down_the_gradient() -> None:
    w, groups = weight()
    first, second = walk(make_ranger(groups, (0.95, 0.999), 1e-5, k=6, alpha=0.5), w, 2)
    assert first[0] < 1.0
    assert second[0] < first[0]
    assert 2.0 < first[1] < second[1]


def test_centralised_gradients_leave_the_mean_of_a_unit_where_it_is() -> None:
    w = torch.nn.Parameter(torch.randn(4, 5, generator=torch.Generator().manual_seed(0)))
    before = w.detach().mean(dim=1)
    groups = [{"params": [w], "lr": 0.1, "weight_decay": 0.0}]
    optimizer = make_ranger(groups, (0.95, 0.999), 1e-5, k=6, alpha=0.5, centralise=True)
    w.grad = torch.rand(4, 5, generator=torch.Generator().manual_seed(1))
    optimizer.step()
    torch.testing.assert_close(w.detach().mean(dim=1), before)


def test_bounds() -> None:
    with pytest.raises(ValidationError, match=r"alpha\n.*less than or equal to 1"):
        RangerConfig(alpha=1.1)

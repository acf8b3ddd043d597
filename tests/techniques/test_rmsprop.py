"""RMSprop by hand, with momentum and with a penalty."""

import math

import pytest
import torch

from etude.techniques.optimizers.rmsprop import RMSpropConfig, make_rmsprop


def test_two_steps_by_hand() -> None:
    w = torch.nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
    optimizer = make_rmsprop([{"params": [w], "lr": 0.1, "weight_decay": 0.5}], 0.9, 0.8, 1e-3)
    w.grad = torch.tensor([3.0], dtype=torch.float64)
    optimizer.step()
    g = 3 + 0.5 * 2.0
    v = 0.1 * g**2
    b = g / (math.sqrt(v) + 1e-3)
    assert w.item() == pytest.approx(2.0 - 0.1 * b, abs=1e-12)
    before = w.item()
    w.grad = torch.tensor([-1.0], dtype=torch.float64)
    optimizer.step()
    g = -1 + 0.5 * before
    v = 0.9 * v + 0.1 * g**2
    b = 0.8 * b + g / (math.sqrt(v) + 1e-3)
    assert w.item() == pytest.approx(before - 0.1 * b, abs=1e-12)


def test_memory_is_one_number_a_weight_without_momentum() -> None:
    w = torch.nn.Parameter(torch.ones(7))
    w.grad = torch.ones(7)
    optimizer = make_rmsprop([{"params": [w], "lr": 0.1, "weight_decay": 0.0}], 0.9, 0.0, 1e-8)
    optimizer.step()
    assert sum(value.numel() for value in optimizer.state[w].values()) == 7 + 1


def test_default_memory_is_the_lectures() -> None:
    assert RMSpropConfig().alpha == 0.9

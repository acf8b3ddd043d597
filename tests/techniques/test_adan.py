"""Adan by hand over two steps, and its proximal decay."""

import pytest
import torch

from etude.techniques.optimizers.adan import make_adan

BETAS = (0.98, 0.92, 0.99)


def test_two_steps_by_hand() -> None:
    w = torch.nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    optimizer = make_adan([{"params": [w], "lr": 0.1, "weight_decay": 0.0}], BETAS, 1e-12)
    for gradient in (2.0, 5.0):
        w.grad = torch.tensor([gradient], dtype=torch.float64)
        optimizer.step()
    m = (0.98 * 0.02 * 2 + 0.02 * 5) / (1 - 0.98**2)
    d = 0.08 * (5 - 2) / (1 - 0.92**2)
    n = (0.99 * 0.01 * 2**2 + 0.01 * (5 + 0.92 * 3) ** 2) / (1 - 0.99**2)
    assert w.item() == pytest.approx(1.0 - 0.1 - 0.1 * (m + 0.92 * d) / n**0.5, abs=1e-12)


def test_decay_divides() -> None:
    w = torch.nn.Parameter(torch.tensor([3.0]))
    w.grad = torch.zeros(1)
    make_adan([{"params": [w], "lr": 0.1, "weight_decay": 5.0}], BETAS, 1e-8).step()
    assert w.item() == pytest.approx(3.0 / 1.5)


def test_gradients_are_not_clipped() -> None:
    w = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    optimizer = make_adan([{"params": [w], "lr": 0.1, "weight_decay": 0.0}], BETAS, 1e-8)
    w.grad = torch.tensor([1e6, 1e6], dtype=torch.float64)
    optimizer.step()
    assert optimizer.state[w]["exp_avg"].tolist() == pytest.approx([0.02e6] * 2)


def test_memory_is_four_numbers_a_weight() -> None:
    w = torch.nn.Parameter(torch.ones(7))
    w.grad = torch.ones(7)
    optimizer = make_adan([{"params": [w], "lr": 0.1, "weight_decay": 0.0}], BETAS, 1e-8)
    optimizer.step()
    assert sum(value.numel() for value in optimizer.state[w].values()) == 4 * 7

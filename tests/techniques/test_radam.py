"""RAdam: plain momentum while the variance has no bound, then a rectified step."""

import math

import pytest
import torch

from etude.techniques.optimizers.radam import make_radam


def test_first_steps_are_momentum_and_the_sixth_is_rectified() -> None:
    w = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = make_radam([{"params": [w], "lr": 1.0, "weight_decay": 0.0}], (0.9, 0.999), 1e-12)
    steps = []
    for _ in range(6):
        before = w.item()
        w.grad = torch.tensor([100.0], dtype=torch.float64)
        optimizer.step()
        steps.append(before - w.item())
    assert steps[:5] == pytest.approx([100.0] * 5)
    longest = 2 / 0.001 - 1
    length = longest - 2 * 6 * 0.999**6 / (1 - 0.999**6)
    assert 5 < length < 6
    r = math.sqrt((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length))
    assert steps[5] == pytest.approx(r, rel=1e-9)
    assert r < 0.05


def test_late_steps_are_adams() -> None:
    ends = []
    for make in (make_radam, lambda g, b, e: torch.optim.AdamW(g, betas=b, eps=e)):
        w = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
        optimizer = make([{"params": [w], "lr": 1.0, "weight_decay": 0.0}], (0.9, 0.9), 1e-12)
        for t in range(400):
            w.grad = torch.tensor([math.cos(t)], dtype=torch.float64)
            before = w.item()
            optimizer.step()
        ends.append(w.item() - before)
    assert ends[0] == pytest.approx(ends[1], rel=1e-6)


def test_decay_is_decoupled_from_the_gradient() -> None:
    w = torch.nn.Parameter(torch.tensor([2.0]))
    w.grad = torch.zeros(1)
    make_radam([{"params": [w], "lr": 0.1, "weight_decay": 0.5}], (0.9, 0.999), 1e-8).step()
    assert w.item() == pytest.approx(2.0 * (1 - 0.1 * 0.5))

"""NAdam: its decay is decoupled, and its momentum rises to β1."""

import pytest
import torch

from etude.techniques.optimizers.nadam import make_nadam


def test_decay_is_decoupled_from_the_gradient() -> None:
    w = torch.nn.Parameter(torch.tensor([2.0]))
    w.grad = torch.zeros(1)
    make_nadam([{"params": [w], "lr": 0.1, "weight_decay": 0.5}], (0.9, 0.999), 1e-8, 0.004).step()
    assert w.item() == pytest.approx(2.0 * (1 - 0.1 * 0.5))


def test_the_momenta_are_dozats() -> None:
    w = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = make_nadam([{"params": [w], "lr": 0.1, "weight_decay": 0.0}], (0.9, 0.999), 1e-8, 0.004)
    product = 1.0
    for t in range(1, 4):
        w.grad = torch.ones(1, dtype=torch.float64)
        optimizer.step()
        product *= 0.9 * (1 - 0.5 * 0.96 ** (0.004 * t))
    assert optimizer.state[w]["mu_product"].item() == pytest.approx(product, rel=1e-6)
    assert product == pytest.approx(0.45**3, rel=1e-3)


def test_it_brakes_before_adam_does() -> None:
    """After a turn of the gradient the look-ahead has already taken part of the turn."""
    ends = []
    for kind in ("nadam", "adam"):
        w = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
        groups = [{"params": [w], "lr": 0.1, "weight_decay": 0.0}]
        optimizer = make_nadam(groups, (0.9, 0.99), 1e-8, 0.0) if kind == "nadam" else torch.optim.Adam(
            groups, betas=(0.9, 0.99))  # fmt: skip
        for t in range(10):
            w.grad = torch.tensor([1.0 if t < 9 else -1.0], dtype=torch.float64)
            before = w.item()
            optimizer.step()
        ends.append(w.item() - before)
    assert ends[0] > ends[1]

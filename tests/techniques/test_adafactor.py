"""Adafactor: memory by row and column, relative steps, cut steps, and small gradients."""

import pytest
import torch
from pydantic import ValidationError

from etude.techniques.optimizers.adafactor import AdafactorConfig, make_adafactor

DEFAULTS = (0.8, 1.0, AdafactorConfig().eps, 1e-3)


def one_step(start: torch.Tensor, gradient: torch.Tensor, lr: float = 0.01) -> torch.Tensor:
    w = torch.nn.Parameter(start.clone())
    w.grad = gradient
    make_adafactor([{"params": [w], "lr": lr, "weight_decay": 0.0}], *DEFAULTS).step()
    return (w.detach() - start) / lr


def test_memory_of_a_matrix_is_its_rows_and_columns() -> None:
    w = torch.nn.Parameter(torch.ones(30, 20))
    w.grad = torch.ones(30, 20)
    optimizer = make_adafactor([{"params": [w], "lr": 0.1, "weight_decay": 0.0}], *DEFAULTS)
    optimizer.step()
    assert sum(value.numel() for value in optimizer.state[w].values()) == 30 + 20 + 1


def test_the_size_of_the_gradient_means_nothing_however_small_it_is() -> None:
    """With torch's own ε1 of 1e-7 gradients of 1e-5 would be bounded where their averages are divided."""
    generator = torch.Generator().manual_seed(0)
    start, gradient = torch.randn(4, 3, generator=generator), torch.randn(4, 3, generator=generator)
    large, small = one_step(start, gradient), one_step(start, 1e-5 * gradient)
    assert torch.allclose(large, small, rtol=1e-4)


def test_a_step_is_relative_to_the_weights_and_never_longer_than_they_are() -> None:
    start = torch.full((5,), 3.0)
    moved = one_step(start, torch.tensor([1.0, -2.0, 3.0, -4.0, 5.0]))
    assert moved.tolist() == pytest.approx([-3.0, 3.0, -3.0, 3.0, -3.0])
    assert one_step(torch.zeros(5), torch.ones(5)).tolist() == pytest.approx([-1e-3] * 5)


def test_the_rate_is_bounded_by_the_root_of_the_step() -> None:
    w = torch.nn.Parameter(torch.ones(1))
    optimizer = make_adafactor([{"params": [w], "lr": 100.0, "weight_decay": 0.0}], *DEFAULTS)
    w.grad = torch.ones(1)
    optimizer.step()
    assert w.item() == pytest.approx(0.0)


def test_bounds() -> None:
    with pytest.raises(ValidationError, match=r"clip\n.*greater than or equal to 1"):
        AdafactorConfig(clip=0.5)

"""LAMB: a step is as long as the tensor times the rate, with the decay inside of it."""

import pytest
import torch

from etude.techniques.optimizers.lamb import make_lamb


def step(start: list[float], gradient: list[float], decay: float = 0.0) -> torch.Tensor:
    w = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64))
    w.grad = torch.tensor(gradient, dtype=torch.float64)
    make_lamb([{"params": [w], "lr": 0.1, "weight_decay": decay}], (0.9, 0.999), 1e-12).step()
    return w.detach() - torch.tensor(start, dtype=torch.float64)


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_the_length_of_a_step_is_the_rate_times_the_norm(decay: float) -> None:
    """With the decay outside of the trust ratio the second would be longer."""
    assert step([3.0, -4.0], [100.0, -0.1], decay).norm().item() == pytest.approx(0.1 * 5.0)


def test_the_direction_is_adams_plus_the_decay() -> None:
    moved = step([3.0, -4.0], [0.5, 0.5], decay=0.5)
    adam = 0.1 / 0.001**0.5
    wanted = -torch.tensor([adam + 1.5, adam - 2.0], dtype=torch.float64)
    assert torch.nn.functional.cosine_similarity(moved, wanted, dim=0).item() == pytest.approx(1.0)


def test_the_first_steps_are_no_longer_than_the_later() -> None:
    w = torch.nn.Parameter(torch.ones(4, dtype=torch.float64))
    optimizer = make_lamb([{"params": [w], "lr": 1e-3, "weight_decay": 0.0}], (0.9, 0.999), 1e-12)
    lengths = []
    for _ in range(5):
        before = w.detach().clone()
        w.grad = torch.ones(4, dtype=torch.float64)
        optimizer.step()
        lengths.append(float((w.detach() - before).norm() / before.norm()))
    assert lengths == pytest.approx([1e-3] * 5)


def test_large_tensors_count_as_ten_and_those_at_zero_as_their_step() -> None:
    assert step([300.0, -400.0], [1.0, 1.0]).norm().item() == pytest.approx(0.1 * 10)
    assert step([0.0], [7.0]).item() == pytest.approx(-0.1 * 0.1 / 0.001**0.5)

"""Lion: equal steps for all weights, half of Adam's memory, and decoupled decay."""

import pytest
import torch

from etude.techniques.optimizers.lion import Lion, make_lion


def test_the_step_looks_at_the_average_before_it_takes_the_gradient_in() -> None:
    """β1 weighs the step, β2 the memory: with 0.5 and 0.9 the second step goes by 0.5 · 0.1 + 0.5 · g."""
    w = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    optimizer = make_lion([{"params": [w], "lr": 1.0, "weight_decay": 0.0}], (0.5, 0.9))
    w.grad = torch.ones(2, dtype=torch.float64)
    optimizer.step()
    assert w.tolist() == [-1.0, -1.0]
    w.grad = torch.tensor([-0.09, -0.11], dtype=torch.float64)
    optimizer.step()
    assert w.tolist() == [-2.0, 0.0]
    assert optimizer.state[w]["exp_avg"].tolist() == pytest.approx([0.09 - 0.009, 0.09 - 0.011])


def test_memory_is_one_number_a_weight() -> None:
    w = torch.nn.Parameter(torch.ones(7))
    w.grad = torch.ones(7)
    optimizer = make_lion([{"params": [w], "lr": 1.0, "weight_decay": 0.0}], (0.9, 0.99))
    optimizer.step()
    assert [value.numel() for value in optimizer.state[w].values()] == [7]


def test_decay_is_decoupled_from_the_gradient() -> None:
    w = torch.nn.Parameter(torch.tensor([2.0]))
    w.grad = torch.zeros(1)
    make_lion([{"params": [w], "lr": 0.1, "weight_decay": 0.5}], (0.9, 0.99)).step()
    assert w.item() == pytest.approx(2.0 * (1 - 0.1 * 0.5))


def test_it_says_that_micro_batches_matter() -> None:
    assert not Lion.facts.split_invariant

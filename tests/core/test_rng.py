"""Keyed randomness: a function of who draws and when, and of nothing else."""

import itertools

import pytest
import torch

from etude.core.rng import Moment, key, numpy_generator, torch_generator


def moment(**changes: int) -> Moment:
    return Moment(**{"seed": 0, "step": 3, "epoch": 1, "steps_per_epoch": 2, "total_steps": 12, **changes})


def test_keys_are_known_numbers() -> None:
    """Frozen, since another key would change every run of every user."""
    assert key(0, "shuffle", 0) == 381870767891734442
    assert key(1, "forward", 2, 3) == 5010794353101178400


def test_keys_differ_in_every_part() -> None:
    keys = [key(*parts) for parts in itertools.product(range(3), ("mixup", "shuffle"), range(50))]
    assert len(set(keys)) == 300
    assert key(0, "a", "b") != key(0, "ab") != key(0, "a b")
    assert key(0, "step", 1) != key(0, "step", "1")
    assert all(0 <= value < 2**63 for value in keys)


@pytest.mark.parametrize("name", ["mixup", "cutout"])
def test_draws_do_not_depend_on_earlier_draws(name: str) -> None:
    expected = torch.rand(4, generator=torch_generator(0, name, 3))
    torch.rand(7)
    moment().torch("other")
    assert torch.equal(torch.rand(4, generator=moment().torch(name)), expected)
    numbers = numpy_generator(0, name, 3).random(4)
    assert (moment().numpy(name).random(4) == numbers).all()


def test_draws_of_two_names_or_steps_are_uncorrelated() -> None:
    a = torch.randn(4000, generator=moment().torch("a"))
    for other in (moment().torch("b"), moment(step=4).torch("a"), moment(seed=1).torch("a")):
        b = torch.randn(4000, generator=other)
        assert abs(torch.corrcoef(torch.stack([a, b]))[0, 1]) < 0.06


def test_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    moment().torch("a"), moment().numpy("b"), key(0, "c")
    assert torch.equal(torch.rand(3), expected)


def test_progress_is_a_share() -> None:
    assert [moment(step=step).progress for step in (0, 3, 12)] == [0.0, 0.25, 1.0]

"""Short to long: rising lengths until its time, shuffled epochs after it."""

import numpy as np
import torch
from tiny_contexts import make_context

from etude.core.phases import ORDER, View
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.techniques.curriculum.short_to_long import ShortToLong, ShortToLongConfig

LENGTHS = np.random.default_rng(0).integers(3, 12, 50)


def order(epoch: int, until: str = "1ep", seed: int = 0) -> np.ndarray:
    plan = Plan(make_context())
    plan.attach(ShortToLong(ShortToLongConfig(until=until)))
    found = plan.one(ORDER)
    assert found is not None
    view = View(np.arange(50) + 1000, torch.ones(50, 3), torch.ones(50), LENGTHS)
    return found(view, 8, Moment(seed, epoch, epoch, 10, 40))


def test_rising_until_its_time_then_shuffled() -> None:
    for epoch, until, rising in [
        (0, "1ep", True),
        (1, "1ep", False),
        (1, "0.5dur", True),
        (2, "20st", False),
    ]:
        found = order(epoch, until)
        assert sorted(found) == list(range(50))
        assert (np.diff(LENGTHS[found]) >= 0).all() == rising


def test_an_epoch_that_begins_before_the_time_is_ordered_whole() -> None:
    assert (np.diff(LENGTHS[order(1, "11st")]) >= 0).all()


def test_rows_of_one_length_are_shuffled_by_the_seed() -> None:
    assert np.array_equal(order(0), order(0))
    assert not np.array_equal(order(0), order(0, seed=1))


def test_no_time_is_absent() -> None:
    plan = Plan(make_context())
    plan.attach(ShortToLong(ShortToLongConfig(until="0ep")))
    assert plan.entries() == []

"""Length buckets: valid slices, little padding, and batches that stay random."""

import numpy as np
import pytest

from etude.techniques.sampling.length_buckets import bucket, padding_share


@pytest.mark.parametrize(("n", "batch_size", "window"), [(100, 10, 3), (103, 10, 3), (7, 10, 3), (31, 10, 1)])
def test_every_row_once(n: int, batch_size: int, window: int) -> None:
    rng = np.random.default_rng(0)
    order = bucket(rng.integers(3, 99, n), batch_size, window, rng)
    assert sorted(order) == list(range(n))


def test_full_batches_hold_neighbours_by_length() -> None:
    lengths = np.repeat(np.arange(10), 10)
    order = bucket(lengths, 10, 10, np.random.default_rng(0))
    assert all(len(set(lengths[batch])) == 1 for batch in order.reshape(10, 10))


def test_under_five_per_cent_padding_on_short_texts() -> None:
    """Lengths as in short customer messages: mean near 16, 5 % of them longer than 35."""
    lengths = np.random.default_rng(0).lognormal(2.6, 0.5, 10_000).astype(np.int64).clip(4, 98)
    order = bucket(lengths, 32, 100, np.random.default_rng(1))
    assert padding_share(lengths, order, 32) < 0.04
    assert padding_share(lengths, np.arange(10_000), 32) > 0.5


def test_the_batch_that_is_not_full_is_not_always_the_longest() -> None:
    lengths = np.arange(45)
    rest = [bucket(lengths, 10, 5, np.random.default_rng(seed))[-5:].min() for seed in range(30)]
    assert len(set(rest)) == 5


def test_rows_of_one_length_are_shuffled() -> None:
    orders = [bucket(np.ones(50, dtype=np.int64), 10, 5, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert np.array_equal(orders[0], orders[1])
    assert not np.array_equal(orders[0], orders[2])
    assert not np.array_equal(np.sort(orders[0][:10]), np.sort(orders[2][:10]))

"""The growing batch: which sizes in which epochs, the paper's noise scale, and what is refused."""

from itertools import pairwise

import pytest
from pydantic import ValidationError
from tiny_contexts import make_context

from etude.core.phases import BATCH_SIZE
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.errors import ConfigError
from etude.techniques.curriculum.growing_batch import GrowingBatch, GrowingBatchConfig, equal_phases, grown


def sizes(epochs: int, **settings: object) -> list[int]:
    context = make_context(batch_size=32, epoch_steps=(10,) * epochs)
    plan = Plan(context)
    plan.attach(GrowingBatch(GrowingBatchConfig(**settings)))
    choose = plan.one(BATCH_SIZE)
    if choose is None:
        return []
    return [choose(Moment(0, epoch, epoch, 10, 40)) for epoch in range(epochs)]


def test_the_default_is_that_of_32_64_128_in_equal_phases() -> None:
    assert sizes(6) == [32, 32, 64, 64, 128, 128]
    assert sizes(3) == [32, 64, 128]


def test_named_epochs_come_before_phases() -> None:
    assert sizes(5, at=[1, 4], factor=3.0) == [32, 96, 96, 96, 288]


def test_sizes_are_whole_numbers() -> None:
    assert sizes(3, factor=1.5) == [32, 48, 72]
    assert grown(10, 1.25, [1, 2], 2) == 16


@pytest.mark.parametrize(("n_phases", "n_epochs"), [(1, 1), (2, 5), (3, 7), (4, 4), (5, 23)])
def test_phases_differ_by_one_epoch_at_most(n_phases: int, n_epochs: int) -> None:
    edges = [0, *equal_phases(n_phases, n_epochs), n_epochs]
    lengths = [end - start for start, end in pairwise(edges)]
    assert len(lengths) == n_phases
    assert max(lengths) - min(lengths) <= 1


def test_dividing_the_rate_and_multiplying_the_batch_are_the_same_noise() -> None:
    """Smith et al. 2018, section 2: the noise of the steps is lr · (N / B - 1), about lr · N / B."""
    n, lr = 50_000, 0.1
    for stage in range(3):
        by_rate = lr / 5**stage * (n / 128)
        by_batch = lr * (n / grown(128, 5.0, [1, 2], stage))
        assert by_batch == pytest.approx(by_rate)


@pytest.mark.parametrize("settings", [{"factor": 1.0}, {"phases": 1}, {"at": []}], ids=str)
def test_no_growth_is_absent(settings: dict[str, object]) -> None:
    assert sizes(2, **settings) == []


def test_what_the_run_is_too_short_for_is_refused() -> None:
    with pytest.raises(ConfigError, match="has 3 phases and the run has 2 epochs; lower phases, or raise"):
        sizes(2)
    with pytest.raises(ConfigError, match="grows after epoch 5 and the run has 5 epochs; name earlier"):
        sizes(5, at=[2, 5])
    with pytest.raises(ValueError, match="2 epochs cannot be cut into 3 phases"):
        equal_phases(3, 2)


@pytest.mark.parametrize("at", [[3, 2], [2, 2]])
def test_epochs_must_rise(at: list[int]) -> None:
    with pytest.raises(ValidationError, match="must name each epoch once, in rising order"):
        GrowingBatchConfig(at=at)
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        GrowingBatchConfig(at=[0])

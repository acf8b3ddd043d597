"""Noisy examples: what is dropped by count and by mass, and when it begins."""

import pytest
import torch
from tiny_contexts import make_context

from etude.core.batch import Batch
from etude.core.phases import WEIGH_EXAMPLE
from etude.core.plan import Plan, build_plan
from etude.core.rng import Moment
from etude.errors import ConflictError
from etude.techniques.filtering.hard_examples import HardExamples, HardExamplesConfig, keep_hardest
from etude.techniques.filtering.noisy_examples import NoisyExamples, NoisyExamplesConfig, drop_hardest

LOSSES = torch.tensor([0.3, 0.1, 0.9, 0.5, 0.7, 0.2])


@pytest.mark.parametrize(
    ("share", "n_dropped"), [(0.0, 0), (0.05, 0), (0.1, 1), (0.25, 2), (0.5, 3), (0.99, 5)]
)
def test_drops_a_rounded_count_and_never_all(share: float, n_dropped: int) -> None:
    found = drop_hardest(LOSSES, share, "count")
    assert found.sum() == 6 - n_dropped
    assert found[LOSSES.argsort(descending=True)[:n_dropped]].sum() == 0


@pytest.mark.parametrize(
    ("share", "n_dropped"),
    # The sum is 2.7; the highest losses add up to 0.9, 1.6, 2.1, 2.4, 2.6, 2.7.
    [(0.3, 0), (0.34, 1), (0.59, 1), (0.6, 2), (0.78, 3), (0.9, 4), (0.97, 5), (0.99, 5)],
)
def test_drops_at_most_the_share_of_the_mass(share: float, n_dropped: int) -> None:
    found = drop_hardest(LOSSES, share, "mass")
    assert found.sum() == 6 - n_dropped
    assert ((1 - found) * LOSSES).sum() <= share * LOSSES.sum()


def test_what_one_filter_keeps_the_other_drops() -> None:
    for share in (1 / 6, 1 / 3, 0.5, 2 / 3):
        assert torch.equal(keep_hardest(LOSSES, share, "count"), 1 - drop_hardest(LOSSES, share, "count"))


def test_ties_and_losses_of_zero() -> None:
    assert drop_hardest(torch.ones(4), 0.5, "count").tolist() == [0, 0, 1, 1]
    assert drop_hardest(torch.ones(4), 0.5, "mass").tolist() == [0, 0, 1, 1]
    assert drop_hardest(torch.zeros(3), 0.2, "mass").sum() >= 1


def weighed(step: int, **settings: object) -> list[float]:
    plan = Plan(make_context())
    plan.attach(NoisyExamples(NoisyExamplesConfig(**settings)))
    (weigh,) = plan.many(WEIGH_EXAMPLE)
    batch = Batch({}, torch.ones(6, 1), torch.ones(6), torch.arange(6))
    return weigh(LOSSES, batch, Moment(0, step, step // 10, 10, 40)).tolist()


def test_it_begins_after_its_time() -> None:
    assert weighed(9, share=0.2) == [1] * 6
    assert weighed(10, share=0.2) == [1, 1, 0, 1, 1, 1]
    assert weighed(19, share=0.2, after="0.5dur") == [1] * 6
    assert weighed(20, share=0.2, after="0.5dur") == [1, 1, 0, 1, 1, 1]
    assert weighed(0, share=0.34, by="mass", after="0st") == [1, 1, 0, 1, 1, 1]


def test_a_share_of_zero_is_absent() -> None:
    plan = Plan(make_context())
    plan.attach(NoisyExamples(NoisyExamplesConfig(share=0.0)))
    assert plan.entries() == []


def test_bounds_name_the_value() -> None:
    with pytest.raises(ValueError, match=r"share is 1.0 and must lie in \[0, 1\)"):
        drop_hardest(LOSSES, 1.0, "count")


def test_the_opposite_filter_is_refused() -> None:
    pair = [HardExamples(HardExamplesConfig()), NoisyExamples(NoisyExamplesConfig())]
    with pytest.raises(ConflictError, match="noisy_examples clashes with hard_examples: one drops what the"):
        build_plan(pair, make_context())

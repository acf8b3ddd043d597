"""Hard examples: counts, ties, and the clash with mixed inputs."""

import pytest
import torch
from tiny_contexts import make_context

from etude.core.phases import WEIGH_EXAMPLE
from etude.core.plan import Plan
from etude.techniques.filtering.hard_examples import HardExamples, HardExamplesConfig, keep_share

LOSSES = torch.tensor([0.3, 0.1, 0.9, 0.5, 0.7, 0.2])


def test_keeps_the_highest_or_the_lowest() -> None:
    assert keep_share(LOSSES, 0.5, "hardest").tolist() == [0, 0, 1, 1, 1, 0]
    assert keep_share(LOSSES, 0.5, "easiest").tolist() == [1, 1, 0, 0, 0, 1]


@pytest.mark.parametrize(
    ("share", "n_kept"), [(0.01, 1), (0.2, 1), (0.3, 2), (0.75, 4), (0.999, 6), (1.0, 6)]
)
def test_keeps_a_rounded_count_and_at_least_one(share: float, n_kept: int) -> None:
    assert keep_share(LOSSES, share, "hardest").sum() == n_kept


def test_ties_go_to_the_earlier_row() -> None:
    for keep in ("hardest", "easiest"):
        assert keep_share(torch.ones(4), 0.5, keep).tolist() == [1, 1, 0, 0]


def test_the_two_ends_complement_each_other() -> None:
    assert torch.equal(keep_share(LOSSES, 1 / 3, "hardest"), 1 - keep_share(LOSSES, 2 / 3, "easiest"))


def test_a_share_of_one_is_absent() -> None:
    plan = Plan(make_context())
    plan.attach(HardExamples(HardExamplesConfig(share=1.0)))
    assert plan.one(WEIGH_EXAMPLE) is None


def test_bounds_name_the_value() -> None:
    with pytest.raises(ValueError, match=r"share is 0.0 and must lie in \(0, 1\]"):
        keep_share(LOSSES, 0.0, "hardest")


def test_mixing_is_a_declared_clash_and_label_smoothing_is_not() -> None:
    assert set(HardExamples.facts.clashes) == {"mixup", "hidden_mixup"}
    assert HardExamples.facts.accepts_soft_targets

"""Hard examples: by count and by mass, ties, and the clashes with mixed inputs."""

import runpy
from pathlib import Path

import pytest
import torch
from tiny_contexts import make_context

from etude.core.batch import Batch
from etude.core.phases import WEIGH_EXAMPLE
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.techniques.filtering.hard_examples import HardExamples, HardExamplesConfig, keep_hardest

LOSSES = torch.tensor([0.3, 0.1, 0.9, 0.5, 0.7, 0.2])


def test_keeps_the_highest() -> None:
    assert keep_hardest(LOSSES, 0.5, "count").tolist() == [0, 0, 1, 1, 1, 0]


@pytest.mark.parametrize(
    ("share", "n_kept"), [(0.01, 1), (0.2, 1), (0.3, 2), (0.75, 4), (0.999, 6), (1.0, 6)]
)
def test_keeps_a_rounded_count_and_at_least_one(share: float, n_kept: int) -> None:
    assert keep_hardest(LOSSES, share, "count").sum() == n_kept


@pytest.mark.parametrize(
    ("share", "kept"),
    # The sum is 2.7; the highest losses add up to 0.9, 1.6, 2.1, 2.4, 2.6, 2.7.
    [(0.01, 1), (0.33, 1), (0.34, 2), (0.59, 2), (0.6, 3), (0.77, 3), (0.88, 4), (0.9, 5), (0.99, 6)],
)
def test_keeps_as_few_as_hold_the_share_of_the_mass(share: float, kept: int) -> None:
    found = keep_hardest(LOSSES, share, "mass")
    assert found.sum() == kept
    assert torch.equal(found, keep_hardest(LOSSES, kept / 6, "count"))


def test_ties_go_to_the_earlier_row() -> None:
    for by in ("count", "mass"):
        assert keep_hardest(torch.ones(4), 0.5, by).tolist() == [1, 1, 0, 0]


def test_losses_of_zero_keep_one() -> None:
    assert keep_hardest(torch.zeros(3), 0.9, "mass").tolist() == [1, 0, 0]


def test_the_technique_weighs_by_its_settings() -> None:
    plan = Plan(make_context())
    plan.attach(HardExamples(HardExamplesConfig(share=0.3, by="mass")))
    (weigh,) = plan.many(WEIGH_EXAMPLE)
    ones = torch.ones(6)
    batch = Batch({}, ones[:, None], ones, torch.arange(6))
    assert weigh(LOSSES, batch, Moment(0, 0, 0, 10, 40)).tolist() == [0, 0, 1, 0, 0, 0]


def test_a_share_of_one_is_absent() -> None:
    plan = Plan(make_context())
    plan.attach(HardExamples(HardExamplesConfig(share=1.0)))
    assert plan.one(WEIGH_EXAMPLE) is None


def test_bounds_name_the_value() -> None:
    with pytest.raises(ValueError, match=r"share is 0.0 and must lie in \(0, 1\]"):
        keep_hardest(LOSSES, 0.0, "count")


def test_mixing_is_a_declared_clash_and_label_smoothing_is_not() -> None:
    assert set(HardExamples.facts.clashes) == {"mixup", "cutmix", "hidden_mixup"}
    assert HardExamples.facts.accepts_soft_targets


def test_references_agree() -> None:
    found = list(runpy.run_path(str(Path(__file__).parents[2] / "benchmarks/parity/filtering.py"))["rows"]())
    assert {name for name, _, _ in found} == {"hard_examples", "noisy_examples"}
    assert max(apart for _, _, apart in found) <= 1e-10

"""Distribution-balanced loss: its weights, its offsets, and what negatives tolerate."""

import math

import numpy as np
import pytest
import torch
from loss_checks import (
    assert_finite_at_the_ends,
    assert_keeps_float64,
    assert_linear_in_targets,
    assert_rows_do_not_lean_on_each_other,
    assert_same_gradients,
    seeded,
)
from tiny_contexts import make_context
from torch.nn.functional import binary_cross_entropy_with_logits

from etude.core.backbone import Output
from etude.core.batch import Batch
from etude.core.phases import LOSS
from etude.core.plan import build_plan
from etude.core.rng import Moment
from etude.errors import ConfigError, ConflictError
from etude.techniques.losses.bce import bce_terms
from etude.techniques.losses.distribution_balanced import (
    DistributionBalanced,
    DistributionBalancedConfig,
    label_offsets,
    negative_tolerant_terms,
    rebalanced_weights,
)
from etude.techniques.losses.focal import focal_sigmoid_terms

COUNTS = torch.tensor([400.0, 100.0, 20.0, 4.0, 2.0], dtype=torch.float64)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_weights_are_the_papers_by_hand() -> None:
    """Labels 0 and 3 hold: r = (1/n_c) / (1/400 + 1/4)."""
    targets = torch.tensor([[1.0, 0.0, 0.0, 1.0, 0.0]], dtype=torch.float64)
    found = rebalanced_weights(targets, COUNTS, alpha=0.1, beta=10.0, mu=0.2)[0]
    shown = 1 / 400 + 1 / 4
    expected = [0.1 + sigmoid(10 * (1 / n / shown - 0.2)) for n in (400, 100, 20, 4, 2)]
    assert found.tolist() == pytest.approx(expected, abs=1e-15)


def test_a_row_with_one_label_gives_that_label_a_share_of_one() -> None:
    targets = torch.eye(5, dtype=torch.float64)
    found = rebalanced_weights(targets, COUNTS, alpha=0.0, beta=10.0, mu=0.2).diagonal()
    assert torch.allclose(found, torch.full((5,), sigmoid(8.0), dtype=torch.float64), rtol=0, atol=1e-15)


def test_a_row_without_labels_has_the_largest_weight() -> None:
    found = rebalanced_weights(torch.zeros(1, 5), COUNTS.float(), alpha=0.1, beta=10.0, mu=0.2)
    assert torch.equal(found, torch.full((1, 5), 1.1))


def test_offsets_start_each_label_near_its_frequency() -> None:
    """With κ = 1 a logit of zero stands for the label's share of the rows."""
    shares = torch.sigmoid(-label_offsets([400, 100, 20, 4, 2], 1000, kappa=1.0))
    assert torch.allclose(shares, COUNTS / 1000, rtol=0, atol=1e-12)


def test_negatives_are_scaled_in_the_logit_and_back_in_the_loss() -> None:
    logits, _, several = seeded()
    offsets = label_offsets([40, 30, 20, 10, 5], 100, kappa=0.05)
    moved = logits - offsets
    scaled = torch.where(several == 1, moved, 2 * moved)
    theirs = binary_cross_entropy_with_logits(scaled, several, reduction="none")
    theirs = torch.where(several == 1, theirs, theirs / 2)
    assert_same_gradients(negative_tolerant_terms(logits, several, offsets, 2.0), theirs / 5, logits)


@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_without_offset_and_scale_it_is_bce_or_focal(gamma: float) -> None:
    logits, _, several = seeded()
    ours = negative_tolerant_terms(logits, several, torch.zeros(5), 1.0, gamma)
    assert_same_gradients(ours, focal_sigmoid_terms(logits, several, gamma), logits)
    if gamma == 0.0:
        assert torch.allclose(ours, bce_terms(logits, several), rtol=0, atol=1e-15)


def test_weights_and_terms_meet_in_the_plan() -> None:
    plan = build_plan([DistributionBalanced(DistributionBalancedConfig())], make_context("multilabel"))
    loss = plan.one(LOSS)
    assert loss is not None
    targets = torch.tensor([[1.0, 0.0, 1.0]])
    batch = Batch({}, targets, torch.ones(1), torch.zeros(1, dtype=torch.int64))
    logits = torch.tensor([[0.3, -1.0, 2.0]], dtype=torch.float64)
    found = loss(Output(logits, torch.zeros(1, 2)), batch, Moment(0, 0, 0, 10, 40))
    assert found.dtype == torch.float64
    share = 0.1 / (0.1 + 0.02)  # label 0 holds in 10 rows, label 2 in 50
    low = 0.3 - 0.05 * math.log(9)
    expected = (0.1 + sigmoid(10 * (share - 0.2))) * math.log1p(math.exp(-low)) / 3
    assert float(found[0, 0]) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_terms_keep_to_what_every_loss_must(gamma: float) -> None:
    def terms(logits, targets):
        return negative_tolerant_terms(logits, targets, torch.full_like(logits[0], 0.1), 2.0, gamma)

    assert_linear_in_targets(terms)
    assert_finite_at_the_ends(terms)
    assert_rows_do_not_lean_on_each_other(terms, seeded()[2])
    assert_keeps_float64(terms)


def test_a_label_in_all_rows_is_refused() -> None:
    context = make_context("multilabel", class_counts=np.array([10, 100, 5]))
    with pytest.raises(
        ConfigError, match=r"distribution_balanced: label 1 holds in 100 of 100 rows.*use bce"
    ):
        build_plan([DistributionBalanced(DistributionBalancedConfig())], context)


def test_single_label_tasks_are_refused() -> None:
    with pytest.raises(ConflictError, match="distribution_balanced works on multilabel tasks"):
        build_plan([DistributionBalanced(DistributionBalancedConfig())], make_context("multiclass"))

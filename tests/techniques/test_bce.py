"""Binary cross-entropy against torch's own, and its weights of positives."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from tiny_contexts import make_context
from torch.nn.functional import binary_cross_entropy_with_logits, one_hot

from etude.core.phases import LOSS
from etude.core.plan import build_plan
from etude.errors import ConfigError
from etude.techniques.losses.bce import BCE, BCEConfig, balanced_pos_weight, bce_terms


@pytest.mark.parametrize("pos_weight", [None, torch.tensor([0.5, 1.0, 3.0, 9.0], dtype=torch.float64)])
def test_example_loss_is_torchs_mean_over_labels(pos_weight: torch.Tensor | None) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 5 * torch.randn(64, 4, generator=generator, dtype=torch.float64)
    soft = torch.rand(64, 4, generator=generator, dtype=torch.float64)
    for targets in (soft, soft.round()):
        ours = bce_terms(logits, targets, pos_weight).sum(1).mean()
        theirs = binary_cross_entropy_with_logits(logits, targets, pos_weight=pos_weight)
        assert abs(ours - theirs) < 1e-12


def test_on_single_labels_it_is_one_against_all() -> None:
    """C problems of two classes each, also with the soft targets of smoothing and mixing."""
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(64, 4, generator=generator, dtype=torch.float64)
    classes = torch.randint(4, (64,), generator=generator)
    hard = one_hot(classes, 4).double()
    mixed = 0.3 * hard + 0.7 * hard.flip(0)
    for targets in (hard, 0.9 * hard + 0.025, mixed):
        each = [binary_cross_entropy_with_logits(logits[:, c], targets[:, c]) for c in range(4)]
        assert abs(bce_terms(logits, targets).sum(1).mean() - sum(each) / 4) < 1e-12
    assert build_plan([BCE(BCEConfig())], make_context("multiclass")).one(LOSS) is not None


def test_extreme_logits_stay_finite() -> None:
    logits = torch.tensor([[1e4, -1e4]], requires_grad=True)
    bce_terms(logits, torch.tensor([[0.0, 0.0]])).sum().backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad, torch.tensor([[0.5, 0.0]]))


def test_balanced_makes_positives_and_negatives_weigh_the_same() -> None:
    targets = torch.tensor([[1.0, 1.0]] + [[0.0, 1.0]] * 2 + [[0.0, 0.0]] * 3, dtype=torch.float64)
    weight = balanced_pos_weight(targets.sum(0).numpy(), 6).double()
    assert torch.equal((weight * targets).sum(0), (1 - targets).sum(0))


def test_balanced_refuses_a_label_without_negatives() -> None:
    context = make_context("multilabel", class_counts=np.array([10, 100, 5]))
    with pytest.raises(ConfigError, match=r"label 1 holds in 100 of 100 rows.*use pos_weight = \"none\""):
        build_plan([BCE(BCEConfig(pos_weight="balanced"))], context)


def test_a_list_of_the_wrong_length_names_both_lengths() -> None:
    with pytest.raises(ConfigError, match="pos_weight has 2 numbers and the task has 3 labels"):
        build_plan([BCE(BCEConfig(pos_weight=[1.0, 2.0]))], make_context("multilabel"))


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        BCEConfig(pos_weight=[1.0, -2.0])

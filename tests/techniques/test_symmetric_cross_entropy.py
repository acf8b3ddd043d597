"""Symmetric cross-entropy: both directions written out, its bound, and its kinship with poly."""

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
from pydantic import ValidationError
from torch.nn.functional import cross_entropy, one_hot

from etude.techniques.losses.poly import poly_softmax_terms
from etude.techniques.losses.symmetric_cross_entropy import (
    SymmetricCrossEntropyConfig,
    sce_sigmoid_terms,
    sce_softmax_terms,
)


def test_is_cross_entropy_both_ways() -> None:
    """The reverse sums -p log y over all classes, with log 0 = -4."""
    logits, classes, _ = seeded()
    log_y = one_hot(classes, 5).double().sub(1) * 4.0
    theirs = 6.0 * cross_entropy(logits, classes, reduction="none") - 0.1 * (logits.softmax(1) * log_y).sum(1)
    ours = sce_softmax_terms(logits, one_hot(classes, 5).double(), 6.0, 0.1, -4.0).sum(1)
    assert_same_gradients(ours, theirs, logits)


def test_multilabel_is_each_label_as_a_choice_of_two() -> None:
    logits, _, several = seeded()
    two = torch.stack([logits, torch.zeros_like(logits)], dim=-1).reshape(-1, 2)
    held = torch.stack([several, 1 - several], dim=-1).reshape(-1, 2)
    theirs = sce_softmax_terms(two, held, 0.1, 1.0).sum(1).view(64, 5) / 5
    assert_same_gradients(sce_sigmoid_terms(logits, several, 0.1, 1.0), theirs, logits)


def test_the_reverse_part_is_bounded() -> None:
    hopeless = torch.tensor([[-1e4, 1e4]])
    loss = sce_softmax_terms(hopeless, torch.tensor([[1.0, 0.0]]), 1e-9, 1.0, -4.0).sum()
    assert float(loss) == pytest.approx(4.0, abs=1e-4)


def test_is_alpha_times_poly() -> None:
    logits, classes, _ = seeded()
    targets = one_hot(classes, 5).double()
    ours = sce_softmax_terms(logits, targets, 0.1, 1.0, -4.0)
    assert_same_gradients(ours, 0.1 * poly_softmax_terms(logits, targets, 1.0 * 4.0 / 0.1), logits)


def test_class_weights_weigh_the_true_class() -> None:
    """Each part stands in the term of the label, not in that of the class that the model predicts."""
    logits, classes, _ = seeded()
    terms = sce_softmax_terms(logits, one_hot(classes, 5).double(), 0.1, 1.0)
    assert torch.equal((terms != 0).sum(1), torch.ones(64, dtype=torch.int64))


@pytest.mark.parametrize("terms_of", [sce_softmax_terms, sce_sigmoid_terms])
def test_keeps_to_what_every_loss_must(terms_of) -> None:
    def terms(logits, targets):
        return terms_of(logits, targets, 0.1, 1.0)

    assert_linear_in_targets(terms)
    assert_finite_at_the_ends(terms)
    assert_rows_do_not_lean_on_each_other(terms, seeded()[2])
    assert_keeps_float64(terms)


def test_a_log_of_zero_above_zero_is_refused() -> None:
    with pytest.raises(ValidationError, match="less than 0"):
        SymmetricCrossEntropyConfig(log_zero=4.0)

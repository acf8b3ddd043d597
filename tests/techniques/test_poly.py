"""Poly loss: the paper's formulae, its special cases, and integer targets taken for one-hot ones."""

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
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, one_hot

from etude.techniques.losses.focal import focal_sigmoid_terms, focal_softmax_terms
from etude.techniques.losses.poly import PolyConfig, poly_sigmoid_terms, poly_softmax_terms

FORMS = [poly_softmax_terms, poly_sigmoid_terms]


def test_is_cross_entropy_and_epsilon_times_the_miss() -> None:
    logits, classes, _ = seeded()
    p_t = logits.softmax(1)[torch.arange(64), classes]
    theirs = cross_entropy(logits, classes, reduction="none") + 2.0 * (1 - p_t)
    ours = poly_softmax_terms(logits, one_hot(classes, 5).double(), 2.0).sum(1)
    assert_same_gradients(ours, theirs, logits)


def test_classes_are_looked_up_and_not_multiplied() -> None:
    """A class of 3 must not make the miss count three times, as targets taken for one-hot ones do."""
    logits = torch.zeros(1, 4, dtype=torch.float64)
    by_class = [poly_softmax_terms(logits, one_hot(torch.tensor([c]), 4), 1.0).sum() for c in range(4)]
    expected = torch.tensor(4.0, dtype=torch.float64).log() + 0.75
    assert all(abs(loss - expected) < 1e-15 for loss in by_class)


def test_poly_focal_raises_the_miss_to_one_power_more() -> None:
    logits, classes, _ = seeded()
    p_t = logits.softmax(1)[torch.arange(64), classes]
    theirs = (1 - p_t) ** 2 * -p_t.log() + 0.5 * (1 - p_t) ** 3
    ours = poly_softmax_terms(logits, one_hot(classes, 5).double(), 0.5, focal_gamma=2.0).sum(1)
    assert_same_gradients(ours, theirs, logits)


def test_multilabel_form_is_bce_and_epsilon_times_the_miss() -> None:
    logits, _, several = seeded()
    p = torch.sigmoid(logits)
    miss = several * (1 - p) + (1 - several) * p
    theirs = binary_cross_entropy_with_logits(logits, several, reduction="none") + miss
    assert_same_gradients(poly_sigmoid_terms(logits, several, 1.0), theirs / 5, logits)


@pytest.mark.parametrize("gamma", [0.0, 0.7, 2.0])
def test_epsilon_zero_is_the_plain_or_the_focal_loss(gamma: float) -> None:
    logits, classes, several = seeded()
    targets = one_hot(classes, 5).double()
    ours, theirs = (
        poly_softmax_terms(logits, targets, 0.0, gamma),
        focal_softmax_terms(logits, targets, gamma),
    )
    assert_same_gradients(ours, theirs, logits)
    ours, theirs = (
        poly_sigmoid_terms(logits, several, 0.0, gamma),
        focal_sigmoid_terms(logits, several, gamma),
    )
    assert_same_gradients(ours, theirs, logits)


def test_smoothed_targets_are_the_authors_sum_over_classes() -> None:
    logits, classes, _ = seeded()
    smoothed = 0.9 * one_hot(classes, 5).double() + 0.02
    theirs = cross_entropy(logits, smoothed, reduction="none") + (smoothed * (1 - logits.softmax(1))).sum(1)
    assert torch.allclose(poly_softmax_terms(logits, smoothed, 1.0).sum(1), theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("terms_of", FORMS)
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_keeps_to_what_every_loss_must(terms_of, gamma: float) -> None:
    def terms(logits, targets):
        return terms_of(logits, targets, -1.0, gamma)

    assert_linear_in_targets(terms)
    assert_finite_at_the_ends(terms)
    assert_rows_do_not_lean_on_each_other(terms, seeded()[2])
    assert_keeps_float64(terms)


def test_epsilon_below_minus_one_is_refused() -> None:
    """It would turn the first coefficient of the series negative, and being right into a loss."""
    with pytest.raises(ValidationError, match="greater than or equal to -1"):
        PolyConfig(epsilon=-1.5)

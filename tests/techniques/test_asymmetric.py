"""Asymmetric loss: the paper's multilabel loss, timm's single-label one, and its special cases."""

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
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from etude.techniques.losses.asymmetric import (
    AsymmetricConfig,
    asymmetric_sigmoid_terms,
    asymmetric_softmax_terms,
)
from etude.techniques.losses.bce import bce_terms
from etude.techniques.losses.focal import focal_sigmoid_terms


def one_label_by_masks(logits: Tensor, classes: Tensor, gamma_neg: float, gamma_pos: float) -> Tensor:
    """The authors' way: the focus is a power of 1 - p of what is right and 1 - (1 - p) of what is wrong."""
    right = one_hot(classes, logits.shape[1]).double()
    log_p = logits.log_softmax(dim=1)
    p = log_p.exp()
    certain = p * right + (1 - p) * (1 - right)
    focus = (1 - certain) ** (gamma_pos * right + gamma_neg * (1 - right))
    smoothed = 0.9 * right + 0.1 / logits.shape[1]
    return -(smoothed * log_p * focus).sum(1)


def test_multilabel_is_the_papers_loss() -> None:
    logits, _, several = seeded()
    p = torch.sigmoid(logits)
    shifted = (p - 0.05).clamp_min(0)
    theirs = -(several * (1 - p) * p.log() + (1 - several) * shifted**4 * (1 - shifted).log())
    assert_same_gradients(asymmetric_sigmoid_terms(logits, several, 4.0, 1.0, 0.05), theirs / 5, logits)


def test_negatives_below_the_margin_are_silent() -> None:
    logits = torch.tensor([[-4.0, -2.0]], requires_grad=True)
    terms = asymmetric_sigmoid_terms(logits, torch.zeros(1, 2), 1.0, 0.0, 0.05)
    terms.sum().backward()
    assert logits.grad is not None
    assert terms[0, 0] == 0
    assert logits.grad[0, 0] == 0
    assert terms[0, 1] > 0
    assert logits.grad[0, 1] > 0


@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_with_equal_exponents_and_no_margin_it_is_focal_or_bce(gamma: float) -> None:
    logits, _, several = seeded()
    ours = asymmetric_sigmoid_terms(logits, several, gamma, gamma, 0.0)
    assert_same_gradients(ours, focal_sigmoid_terms(logits, several, gamma), logits)
    if gamma == 0.0:
        assert torch.equal(ours, bce_terms(logits, several))


@pytest.mark.parametrize(("gamma_neg", "gamma_pos"), [(4.0, 1.0), (4.0, 0.0), (2.0, 2.0)])
def test_single_label_is_the_authors_code(gamma_neg: float, gamma_pos: float) -> None:
    logits, classes, _ = seeded()
    ours = asymmetric_softmax_terms(logits, one_hot(classes, 5).double(), gamma_neg, gamma_pos, 0.1).sum(1)
    assert_same_gradients(ours, one_label_by_masks(logits, classes, gamma_neg, gamma_pos), logits)


def test_single_label_without_exponents_is_smoothed_cross_entropy() -> None:
    logits, classes, _ = seeded()
    ours = asymmetric_softmax_terms(logits, one_hot(classes, 5).double(), 0.0, 0.0, 0.1).sum(1)
    theirs = cross_entropy(logits, classes, label_smoothing=0.1, reduction="none")
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 4.0])
@pytest.mark.parametrize("clip", [0.0, 0.05])
def test_multilabel_keeps_to_what_every_loss_must(gamma: float, clip: float) -> None:
    def terms(logits, targets):
        return asymmetric_sigmoid_terms(logits, targets, gamma, 0.5, clip)

    assert_linear_in_targets(terms)
    assert_finite_at_the_ends(terms)
    assert_rows_do_not_lean_on_each_other(terms, seeded()[2])
    assert_keeps_float64(terms)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 4.0])
def test_single_label_keeps_to_what_every_loss_must(gamma: float) -> None:
    def terms(logits, targets):
        return asymmetric_softmax_terms(logits, targets, gamma, gamma, 0.1)

    assert_linear_in_targets(terms)
    assert_finite_at_the_ends(terms)
    assert_rows_do_not_lean_on_each_other(terms, one_hot(seeded()[1], 5).double())
    assert_keeps_float64(terms)


def test_a_margin_of_one_is_refused() -> None:
    with pytest.raises(ValidationError, match="less than 1"):
        AsymmetricConfig(clip=1.0)

"""KL divergence: torch's own, gradients of cross-entropy, and zero for a perfect prediction."""

import torch
from loss_checks import assert_finite_at_the_ends, assert_keeps_float64, assert_same_gradients, seeded
from torch.distributions import Bernoulli, kl_divergence
from torch.nn.functional import kl_div, one_hot

from etude.techniques.losses.bce import bce_terms
from etude.techniques.losses.cross_entropy import cross_entropy_terms
from etude.techniques.losses.kl_divergence import kl_sigmoid_terms, kl_softmax_terms


def test_one_label_is_torchs_kl_div() -> None:
    logits, _, _ = seeded()
    soft = torch.randn(64, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64).softmax(1)
    theirs = kl_div(logits.log_softmax(1), soft, reduction="none")
    assert_same_gradients(kl_softmax_terms(logits, soft), theirs, logits)


def test_several_labels_are_torchs_bernoulli_divergence() -> None:
    logits, _, _ = seeded()
    soft = torch.rand(64, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    theirs = kl_divergence(Bernoulli(probs=soft), Bernoulli(logits=logits)) / 5
    assert torch.allclose(kl_sigmoid_terms(logits, soft), theirs, rtol=0, atol=1e-12)


def test_gradients_are_those_of_cross_entropy_and_bce() -> None:
    logits, _, _ = seeded()
    soft = torch.randn(64, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64).softmax(1)
    pairs = [(kl_softmax_terms, cross_entropy_terms), (kl_sigmoid_terms, bce_terms)]
    for ours, theirs in pairs:
        gradients = [torch.autograd.grad(of(logits, soft).sum(), logits)[0] for of in (ours, theirs)]
        assert torch.equal(*gradients)


def test_hard_labels_give_cross_entropy_and_bce_to_the_last_bit() -> None:
    logits, classes, several = seeded(dtype=torch.float32)
    hard = one_hot(classes, 5).float()
    assert torch.equal(kl_softmax_terms(logits, hard), cross_entropy_terms(logits, hard))
    assert torch.equal(kl_sigmoid_terms(logits, several), bce_terms(logits, several))


def test_a_perfect_prediction_of_a_soft_label_costs_nothing() -> None:
    logits, _, _ = seeded()
    assert abs(kl_softmax_terms(logits, logits.softmax(1).detach()).sum(1)).max() < 1e-14
    assert abs(kl_sigmoid_terms(logits, logits.sigmoid().detach())).max() < 1e-14
    entropy = cross_entropy_terms(logits, logits.softmax(1).detach()).sum(1)
    assert entropy.min() > 1e-3


def test_keeps_to_what_every_loss_must() -> None:
    for terms in (kl_softmax_terms, kl_sigmoid_terms):
        assert_finite_at_the_ends(terms)
        assert_keeps_float64(terms)

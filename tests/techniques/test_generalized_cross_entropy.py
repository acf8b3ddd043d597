"""Generalized cross-entropy: its two ends, the truncated loss, and when the truncation begins."""

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
from torch.nn.functional import cross_entropy, one_hot

from etude.core.backbone import Output
from etude.core.batch import Batch
from etude.core.phases import LOSS
from etude.core.plan import build_plan
from etude.core.rng import Moment
from etude.techniques.losses.generalized_cross_entropy import (
    GeneralizedCrossEntropy,
    GeneralizedCrossEntropyConfig,
    gce_sigmoid_terms,
    gce_softmax_terms,
    generalized_cross_entropy,
)


def test_is_the_papers_power() -> None:
    logits, classes, _ = seeded()
    p_t = logits.softmax(1)[torch.arange(64), classes]
    ours = gce_softmax_terms(logits, one_hot(classes, 5).double(), 0.7).sum(1)
    assert_same_gradients(ours, (1 - p_t**0.7) / 0.7, logits)


def test_a_small_power_is_cross_entropy_and_one_is_the_absolute_error() -> None:
    logits, classes, _ = seeded()
    targets = one_hot(classes, 5).double()
    almost = gce_softmax_terms(logits, targets, 1e-9).sum(1)
    assert torch.allclose(almost, cross_entropy(logits, classes, reduction="none"), rtol=0, atol=1e-6)
    error = (logits.softmax(1) - targets).abs().sum(1) / 2
    assert_same_gradients(gce_softmax_terms(logits, targets, 1.0).sum(1), error, logits)


def test_the_gradient_is_cross_entropys_times_p_to_the_q() -> None:
    """The paper's reading: examples that disagree with the model weigh less."""
    logits, classes, _ = seeded()
    weigh = logits.softmax(1)[torch.arange(64), classes].detach() ** 0.7
    weighed = weigh * cross_entropy(logits, classes, reduction="none")
    ours = gce_softmax_terms(logits, one_hot(classes, 5).double(), 0.7).sum(1)
    gradients = [torch.autograd.grad(loss.sum(), logits, retain_graph=True)[0] for loss in (ours, weighed)]
    assert torch.allclose(*gradients, rtol=0, atol=1e-12)


def test_truncated_labels_cost_a_constant_and_pull_at_nothing() -> None:
    logits = torch.tensor([[0.0, 3.0], [3.0, 0.0]], dtype=torch.float64, requires_grad=True)
    right_is_first = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    losses = gce_softmax_terms(logits, right_is_first, 0.7, truncation=0.5).sum(1)
    losses.sum().backward()
    assert losses[0].item() == pytest.approx((1 - 0.5**0.7) / 0.7, abs=1e-15)
    assert logits.grad is not None
    assert torch.equal(logits.grad[0], torch.zeros(2, dtype=torch.float64))
    assert logits.grad[1, 0] < 0


def test_truncation_begins_when_it_is_told_to() -> None:
    config = GeneralizedCrossEntropyConfig(truncation=0.5, truncate_after="0.5dur")
    loss = build_plan([GeneralizedCrossEntropy(config)], make_context("binary")).one(LOSS)
    assert loss is not None
    batch = Batch({}, torch.tensor([[1.0, 0.0]]), torch.ones(1), torch.zeros(1, dtype=torch.int64))
    output = Output(torch.tensor([[-3.0, 3.0]]), torch.zeros(1, 3))
    before, after = (float(loss(output, batch, Moment(0, step, 0, 10, 40)).sum()) for step in (19, 20))
    assert before > after
    assert after == pytest.approx((1 - 0.5**0.7) / 0.7, abs=1e-6)


@pytest.mark.parametrize("terms_of", [gce_softmax_terms, gce_sigmoid_terms])
@pytest.mark.parametrize("truncation", [0.0, 0.4])
def test_keeps_to_what_every_loss_must(terms_of, truncation: float) -> None:
    def terms(logits, targets):
        return terms_of(logits, targets, 0.7, truncation)

    assert_linear_in_targets(terms)
    assert_finite_at_the_ends(terms)
    assert_rows_do_not_lean_on_each_other(terms, seeded()[2])
    assert_keeps_float64(terms)


@pytest.mark.parametrize("q", [0.0, 1.5])
def test_a_power_out_of_bounds_is_refused(q: float) -> None:
    with pytest.raises(ValueError, match=rf"q is {q} and must lie in \(0, 1\]; for q = 0 use cross-entropy"):
        generalized_cross_entropy(torch.zeros(1), q)

"""Cross-entropy against torch's own, value and gradient."""

import pytest
import torch
from tiny_contexts import make_context
from torch.nn.functional import cross_entropy, one_hot

from etude.core.plan import build_plan
from etude.errors import ConflictError
from etude.techniques.losses.cross_entropy import CrossEntropy, CrossEntropyConfig, cross_entropy_terms


def test_hard_targets_equal_torch_bit_for_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = (3 * torch.randn(64, 7, generator=generator)).requires_grad_()
    classes = torch.randint(7, (64,), generator=generator)
    ours = cross_entropy_terms(logits, one_hot(classes, 7).float()).sum(1)
    theirs = cross_entropy(logits, classes, reduction="none")
    assert torch.equal(ours, theirs)
    gradients = [torch.autograd.grad(loss.sum(), logits)[0] for loss in (ours, theirs)]
    assert torch.equal(*gradients)


def test_soft_targets_equal_torch_in_float64() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(64, 5, generator=generator, dtype=torch.float64)
    soft = torch.randn(64, 5, generator=generator, dtype=torch.float64).softmax(-1)
    terms = cross_entropy_terms(logits, soft)
    assert terms.dtype == torch.float64
    assert abs(terms.sum(1).mean() - cross_entropy(logits, soft)) < 1e-12


def test_extreme_logits_stay_finite() -> None:
    logits = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    loss = cross_entropy_terms(logits, torch.tensor([[0.0, 1.0, 0.0]])).sum()
    loss.backward()
    assert loss.item() == 2e4
    assert logits.grad is not None
    assert torch.equal(logits.grad, torch.tensor([[1.0, -1.0, 0.0]]))


def test_multilabel_tasks_are_refused() -> None:
    with pytest.raises(
        ConflictError, match="works on binary and multiclass tasks and this one is multilabel"
    ):
        build_plan([CrossEntropy(CrossEntropyConfig())], make_context("multilabel"))

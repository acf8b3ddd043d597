"""Logit adjustment: cross-entropy of shifted logits, and what it makes of priors."""

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
from torch.nn.functional import cross_entropy, one_hot

from etude.core.backbone import Output
from etude.core.batch import Batch
from etude.core.phases import LOSS
from etude.core.plan import build_plan
from etude.core.rng import Moment
from etude.errors import ConfigError, ConflictError
from etude.techniques.losses.logit_adjusted import (
    LogitAdjusted,
    LogitAdjustedConfig,
    log_prior,
    logit_adjusted_terms,
)
from etude.techniques.weights.class_weights import ClassWeights, ClassWeightsConfig

COUNTS = [500, 120, 60, 18, 2]


def test_is_torchs_cross_entropy_of_shifted_logits() -> None:
    logits, classes, _ = seeded()
    offset = 1.5 * torch.log(torch.tensor(COUNTS, dtype=torch.float64) / 700)
    theirs = cross_entropy(logits + offset, classes, reduction="none")
    ours = logit_adjusted_terms(logits, one_hot(classes, 5).double(), 1.5 * log_prior(COUNTS)).sum(1)
    assert_same_gradients(ours, theirs, logits)


def test_the_best_constant_logits_treat_all_classes_alike() -> None:
    """Without any feature cross-entropy learns the frequencies; adjusted logits come out equal."""
    counts = torch.tensor(COUNTS, dtype=torch.float64)
    logits = torch.zeros(1, 5, dtype=torch.float64, requires_grad=True)
    targets = (counts / counts.sum())[None]
    loss = logit_adjusted_terms(logits, targets, log_prior(COUNTS)).sum()
    assert torch.autograd.grad(loss, logits)[0].abs().max() < 1e-15


def test_uses_the_counts_of_the_training_part_and_tau() -> None:
    plan = build_plan([LogitAdjusted(LogitAdjustedConfig(tau=2.0))], make_context("binary"))
    loss = plan.one(LOSS)
    assert loss is not None
    batch = Batch({}, torch.eye(2), torch.ones(2), torch.arange(2))
    found = loss(Output(torch.zeros(2, 2), torch.zeros(2, 3)), batch, Moment(0, 0, 0, 10, 40)).sum(1)
    share = torch.tensor([0.2**2, 0.8**2]) / (0.2**2 + 0.8**2)
    assert torch.allclose(found, -share.log())


def test_keeps_to_what_every_loss_must() -> None:
    def terms(logits, targets):
        return logit_adjusted_terms(logits, targets, log_prior(COUNTS[: logits.shape[1]]).to(logits))

    assert_linear_in_targets(terms)
    assert_finite_at_the_ends(terms)
    assert_rows_do_not_lean_on_each_other(terms, one_hot(seeded()[1], 5).double())
    assert_keeps_float64(terms)


def test_a_class_without_rows_is_refused() -> None:
    context = make_context("multiclass", class_counts=np.array([10, 0, 90]))
    with pytest.raises(ConfigError, match=r"logit_adjusted: class 1 has 0 rows and needs at least one"):
        build_plan([LogitAdjusted(LogitAdjustedConfig())], context)


def test_multilabel_tasks_are_refused() -> None:
    with pytest.raises(ConflictError, match="logit_adjusted works on binary and multiclass tasks"):
        build_plan([LogitAdjusted(LogitAdjustedConfig())], make_context("multilabel"))


def test_class_weights_beside_it_are_refused() -> None:
    both = [LogitAdjusted(LogitAdjustedConfig()), ClassWeights(ClassWeightsConfig(strategy="balanced"))]
    with pytest.raises(ConflictError, match="both correct the same imbalance, twice over"):
        build_plan(both, make_context("multiclass"))

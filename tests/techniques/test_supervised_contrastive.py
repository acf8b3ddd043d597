"""Supervised contrastive loss: loops over rows, micro-batches, and rows without a partner."""

import numpy as np
import pytest
import torch
from tiny_contexts import make_context
from torch import Tensor
from torch.nn.functional import one_hot

from etude.core.plan import build_plan
from etude.errors import ConflictError
from etude.techniques import technique_class
from etude.techniques.losses.cross_entropy import CrossEntropy, CrossEntropyConfig
from etude.techniques.losses.supervised_contrastive import (
    SupervisedContrastive,
    SupervisedContrastiveConfig,
    supervised_contrastive,
)
from etude.techniques.targets.label_smoothing import LabelSmoothing, LabelSmoothingConfig
from etude.testing.harness import Setup, make_engine
from etude.testing.technique_suite import SPLIT_TOLERANCE, split_difference


def rows(n: int = 12, n_classes: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Features (n, 4) with gradient, classes (n,) and weights (n,)."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(n, 4, generator=generator, dtype=torch.float64).requires_grad_()
    weights = torch.rand(n, generator=generator, dtype=torch.float64)
    return features, torch.randperm(n, generator=generator) % n_classes, weights


def the_papers_equation_2(features: Tensor, classes: Tensor, temperature: float) -> Tensor:
    unit = features / features.norm(dim=1, keepdim=True)
    losses = []
    for i in range(len(unit)):
        others = [a for a in range(len(unit)) if a != i]
        partners = [p for p in others if classes[p] == classes[i]]
        every = sum((unit[i] @ unit[a] / temperature).exp() for a in others)
        logs = [((unit[i] @ unit[p] / temperature).exp() / every).log() for p in partners]
        losses.append(-sum(logs) / len(partners))
    return torch.stack(losses).mean()


def test_one_label_is_the_papers_equation_2() -> None:
    features, classes, _ = rows()
    ours = supervised_contrastive(features, one_hot(classes, 3), torch.ones(12), 0.1)
    theirs = the_papers_equation_2(features, classes, 0.1)
    assert abs(ours - theirs) < 1e-12
    gradients = [torch.autograd.grad(loss, features)[0] for loss in (ours, theirs)]
    assert torch.allclose(*gradients, rtol=0, atol=1e-12)


def test_length_of_features_means_nothing() -> None:
    features, classes, weights = rows()
    scale = torch.rand(12, 1, dtype=torch.float64) + 0.5
    found = [supervised_contrastive(f, one_hot(classes, 3), weights) for f in (features, scale * features)]
    assert abs(found[0] - found[1]) < 1e-12


def test_two_labels_in_common_count_twice() -> None:
    """Rows 0 and 1 share both labels, row 2 shares one with either: a mean over (row, label) pairs."""
    features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    targets = torch.tensor([[1.0, 1.0], [1.0, 1.0], [0.0, 1.0]])
    log_p = torch.tensor([[0.0, 0.0, -1.0], [0.0, 0.0, 0.0], [-1.0, 0.0, 0.0]], dtype=torch.float64)
    log_p = log_p - torch.log(torch.tensor([1 + 0.36787944117144233, 2.0, 1.3678794411714423]))[:, None]
    of_first = [-log_p[0, 1], -log_p[1, 0]]
    of_second = [-(log_p[i, j] + log_p[i, k]) / 2 for i, j, k in ((0, 1, 2), (1, 0, 2), (2, 0, 1))]
    found = supervised_contrastive(features, targets, torch.ones(3), temperature=1.0)
    assert abs(found - torch.stack(of_first + of_second).mean()) < 1e-7


def test_weights_weigh_rows_and_a_weight_of_zero_leaves_a_contrast() -> None:
    features, classes, _ = rows()
    targets, weights = one_hot(classes, 3), torch.ones(12)
    doubled = supervised_contrastive(features, targets, 2 * weights)
    assert abs(doubled - supervised_contrastive(features, targets, weights)) < 1e-12
    weights[0] = 0.0
    one_less = supervised_contrastive(features, targets, weights)
    without = supervised_contrastive(features[1:], targets[1:], torch.ones(11))
    assert abs(one_less - without) > 1e-3


@pytest.mark.parametrize("n", [1, 3])
def test_rows_that_share_nothing_cost_nothing(n: int) -> None:
    features = torch.randn(n, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss = supervised_contrastive(features, torch.eye(3)[:n], torch.ones(n))
    loss.backward()
    assert loss == 0
    assert features.grad is not None
    assert torch.equal(features.grad, torch.zeros(n, 4))


def test_features_of_zeros_have_finite_gradients() -> None:
    features = torch.zeros(4, 4, requires_grad=True)
    supervised_contrastive(features, torch.eye(2).repeat(2, 1), torch.ones(4)).backward()
    assert features.grad is not None
    assert torch.isfinite(features.grad).all()


def test_training_with_it_brings_rows_of_a_label_together() -> None:
    found = {}
    for weight in (0.0, 1.0):
        engine = make_engine({SupervisedContrastive: {"weight": weight}}, Setup(epochs=6))
        engine.fit()
        inputs = engine.train.inputs(np.arange(24))
        with torch.no_grad():
            features = engine.backbone.features(inputs)
        found[weight] = float(supervised_contrastive(features, engine.train.targets, torch.ones(24)))
    assert found[1.0] < 0.9 * found[0.0], found


@pytest.mark.parametrize("kind", ["multiclass", "multilabel"])
def test_micro_batches_are_exact_also_beside_a_filter(kind: str) -> None:
    """The contrast is among all rows of the step, and the filter's weights reach it either way."""
    filtered = {SupervisedContrastive: {}, technique_class("hard_examples"): {"share": 0.5}}
    for recipe in ({SupervisedContrastive: {}}, filtered):
        assert split_difference(recipe, Setup(kind=kind)) <= SPLIT_TOLERANCE


def test_soft_targets_are_refused() -> None:
    techniques = [
        SupervisedContrastive(SupervisedContrastiveConfig()),
        LabelSmoothing(LabelSmoothingConfig()),
        CrossEntropy(CrossEntropyConfig()),
    ]
    with pytest.raises(ConflictError, match="label_smoothing makes targets soft and supervised_contrastive"):
        build_plan(techniques, make_context("multiclass"))

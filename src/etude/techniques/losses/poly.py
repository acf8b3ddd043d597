"""Poly loss: cross-entropy, or the focal loss, with one coefficient of its series changed.

Idea: around a sure prediction, -log p is the series (1 - p) + (1 - p)²/2 + (1 - p)³/3 + … The first
term dominates the gradient of what is already right, and is the one worth tuning: ε is added to it.

Formula, with logits z (B, C) and targets y (B, C), as terms (B, C):

* f(p) = (1 - p)^γ (-log p) + ε (1 - p)^(γ + 1)
* one label for each example, p = softmax(z): l_bc = y_bc f(p_bc)
* any subset of labels, p = σ(z): l_bc = [y_bc f(p_bc) + (1 - y_bc) f(1 - p_bc)] / C
* γ = 0 is Poly-1: CE + ε (1 - p_t); γ > 0 is the Poly-1 focal loss; ε = 0 is cross_entropy, bce or focal

Paper: Leng et al. 2022 (2204.12511), the form Poly-1 with cross-entropy and with the focal loss.

When it helps: a cheap thing to tune once the learning rate is right: ε > 0 makes the model surer
(the paper's image classification), ε < 0 less sure (its detection of rare objects).
When not: noisy labels with ε > 0, and a model that is too sure already. Elsewhere the gain is often too
small to measure.

Suggested values: ε = 1 with γ = 0, from -1 to 6; the paper used 2 on ImageNet and -1 in detection.

Cost: 1 pass; three (B, C) tensors of memory.

Clashes: none; ε > 0 and label smoothing pull against each other, which is allowed and rarely useful.

NOTE[DIFF]: the terms belong to classes, so that the loss is linear in soft targets: for a smoothed
target it is the expectation of the paper's loss over labels drawn from that target.
NOTE[DIFF]: the form with sigmoids follows the paper's code, divided by C as bce is.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from etude.config.fields import SearchRange, setting
from etude.core.backbone import Output
from etude.core.batch import Batch
from etude.core.phases import LOSS
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Facts, Technique, TechniqueConfig


class PolyConfig(TechniqueConfig):
    """Settings of the poly loss."""

    name: Literal["poly"] = "poly"
    epsilon: float = setting(
        1.0,
        help="ε, added to the coefficient of 1 - p; 0 is the plain loss",
        ge=-1.0,
        le=100.0,
        search=SearchRange(-1.0, 6.0),
    )
    focal_gamma: float = setting(
        0.0,
        help="focusing exponent γ; 0 for cross-entropy",
        ge=0.0,
        le=10.0,
        search=SearchRange(0.0, 3.0),
    )


def poly(log_p: Tensor, epsilon: float, focal_gamma: float = 0.0) -> Tensor:
    """Return ``(1 - p)^γ (-log p) + ε (1 - p)^(γ + 1)``, the loss of an outcome of probability p.

    Args:
        log_p: log probabilities of any shape, 0 or less.
        epsilon: ε.
        focal_gamma: γ, 0 or more.

    >>> poly(torch.tensor([0.5, 0.9]).log(), epsilon=1.0)
    tensor([1.1931, 0.2054])
    """
    miss = -log_p.expm1()
    if focal_gamma == 0.0:
        return epsilon * miss - log_p
    # 1 - p rounds to 0 for a sure example, where the power has no finite gradient if γ < 1.
    focus = miss.clamp_min(torch.finfo(miss.dtype).tiny).pow(focal_gamma)
    return focus * (epsilon * miss - log_p)


def poly_softmax_terms(logits: Tensor, targets: Tensor, epsilon: float, focal_gamma: float = 0.0) -> Tensor:
    """Return ``y f(p)`` with p the softmax of the logits.

    Args:
        logits: (B, C).
        targets: (B, C), hard or soft, each row summing to one.
        epsilon: ε.
        focal_gamma: γ, 0 or more.

    Returns:
        (B, C) terms, in the logits' precision; the sum over C is the example's loss.

    >>> poly_softmax_terms(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]), epsilon=1.0)
    tensor([[1.1931, 0.0000]])
    """
    return targets * poly(logits.log_softmax(dim=-1), epsilon, focal_gamma)


def poly_sigmoid_terms(logits: Tensor, targets: Tensor, epsilon: float, focal_gamma: float = 0.0) -> Tensor:
    """Return ``[y f(p) + (1 - y) f(1 - p)] / C`` with p the sigmoid of the logits.

    Args:
        logits: (B, C).
        targets: (B, C) in [0, 1].
        epsilon: ε.
        focal_gamma: γ, 0 or more.

    >>> poly_sigmoid_terms(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]), epsilon=1.0)
    tensor([[0.5966, 0.5966]])
    """
    held = targets * poly(logsigmoid(logits), epsilon, focal_gamma)
    absent = (1.0 - targets) * poly(logsigmoid(-logits), epsilon, focal_gamma)
    return (held + absent) / logits.shape[-1]


class Poly(Technique[PolyConfig]):
    """Cross-entropy or focal loss with a tuned first coefficient; the task chooses the form."""

    Config = PolyConfig
    facts = Facts(family="losses", phase=LOSS, paper="Leng et al. 2022, arXiv 2204.12511")

    def attach(self, plan: Plan) -> None:
        epsilon, gamma = self.config.epsilon, self.config.focal_gamma
        multilabel = plan.context.task.kind == "multilabel"
        terms = poly_sigmoid_terms if multilabel else poly_softmax_terms

        def loss(output: Output, batch: Batch, moment: Moment) -> Tensor:
            return terms(output.logits, batch.targets, epsilon, gamma)

        plan.add(LOSS, loss)

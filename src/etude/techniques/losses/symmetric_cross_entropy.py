"""Symmetric cross-entropy: cross-entropy and its mirror image, which wrong labels cannot drag far.

Idea: cross-entropy asks what the model says of the label; the reverse asks what the label says of the
model. The reverse is bounded, so that a wrong label costs at most |A|, while the forward part keeps
training fast.

Formula, with logits z (B, C), targets y (B, C), and A in the place of log 0, as terms (B, C):

* f(p) = α (-log p) + β (-A) (1 - p); for hard labels the second part is -Σ_c p_c log y_c with log 0 = A
* one label for each example, p = softmax(z): l_bc = y_bc f(p_bc)
* any subset of labels, p = σ(z): l_bc = [y_bc f(p_bc) + (1 - y_bc) f(1 - p_bc)] / C

Paper: Wang et al. 2019 (1908.06112), section 4.

When it helps: ten per cent of wrong labels or more.
When not: clean labels, where it costs tuning and gains nothing. It is α times poly with
ε = β |A| / α, so that tuning both is tuning one thing.

Suggested values: A = -4; α = 0.1, β = 1 with ten classes, α = 6, β = 0.1 with a hundred (the paper's
CIFAR-10 and CIFAR-100): more classes need more of the forward part.

Cost: 1 pass; two (B, C) tensors of memory.

Clashes: none; a filter that keeps the hardest examples works against it.

NOTE[DIFF]: for soft targets the paper's log y would not be linear and would smooth the bound away; here
the loss is its expectation over labels drawn from the target, and each part is in the term of its
label, so that class weights mean what they say.
NOTE[DIFF]: the multilabel form is not in the paper; it is the two-class case applied to each label.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn.functional import logsigmoid

from etude.config.fields import SearchRange, setting
from etude.core.backbone import Output
from etude.core.batch import Batch
from etude.core.phases import LOSS
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Facts, Technique, TechniqueConfig


class SymmetricCrossEntropyConfig(TechniqueConfig):
    """Settings of the symmetric cross-entropy."""

    name: Literal["symmetric_cross_entropy"] = "symmetric_cross_entropy"
    alpha: float = setting(
        0.1, help="weight of cross-entropy", gt=0.0, le=100.0, search=SearchRange(0.01, 6.0, "log")
    )
    beta: float = setting(
        1.0, help="weight of the reverse cross-entropy", ge=0.0, le=100.0, search=SearchRange(0.1, 1.0)
    )
    log_zero: float = setting(-4.0, help="A, the number that stands for log 0", ge=-100.0, lt=0.0)


def symmetric_cross_entropy(log_p: Tensor, alpha: float, beta: float, log_zero: float = -4.0) -> Tensor:
    """Return ``α (-log p) - β A (1 - p)``, the loss of an outcome of probability p.

    Args:
        log_p: log probabilities of any shape, 0 or less.
        alpha: α, weight of cross-entropy.
        beta: β, weight of the reverse cross-entropy.
        log_zero: A, below 0.

    >>> import torch
    >>> symmetric_cross_entropy(torch.tensor([0.25]).log(), alpha=0.0, beta=1.0)
    tensor([3.])
    """
    return beta * log_zero * log_p.expm1() - alpha * log_p


def sce_softmax_terms(
    logits: Tensor, targets: Tensor, alpha: float, beta: float, log_zero: float = -4.0
) -> Tensor:
    """Return ``y f(p)`` with p the softmax of the logits.

    Args:
        logits: (B, C).
        targets: (B, C), hard or soft, each row summing to one.
        alpha: α, weight of cross-entropy.
        beta: β, weight of the reverse cross-entropy.
        log_zero: A, below 0.

    Returns:
        (B, C) terms, in the logits' precision; the sum over C is the example's loss.

    >>> import torch
    >>> sce_softmax_terms(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]), alpha=0.1, beta=1.0)
    tensor([[2.0693, 0.0000]])
    """
    return targets * symmetric_cross_entropy(logits.log_softmax(dim=-1), alpha, beta, log_zero)


def sce_sigmoid_terms(
    logits: Tensor, targets: Tensor, alpha: float, beta: float, log_zero: float = -4.0
) -> Tensor:
    """Return ``[y f(p) + (1 - y) f(1 - p)] / C`` with p the sigmoid of the logits.

    Args:
        logits: (B, C).
        targets: (B, C) in [0, 1].
        alpha: α, weight of cross-entropy.
        beta: β, weight of the reverse cross-entropy.
        log_zero: A, below 0.

    >>> import torch
    >>> sce_sigmoid_terms(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]), alpha=0.1, beta=1.0)
    tensor([[1.0347, 1.0347]])
    """
    held = targets * symmetric_cross_entropy(logsigmoid(logits), alpha, beta, log_zero)
    absent = (1.0 - targets) * symmetric_cross_entropy(logsigmoid(-logits), alpha, beta, log_zero)
    return (held + absent) / logits.shape[-1]


class SymmetricCrossEntropy(Technique[SymmetricCrossEntropyConfig]):
    """A loss half of which is bounded; the task chooses between its two forms."""

    Config = SymmetricCrossEntropyConfig
    facts = Facts(family="losses", phase=LOSS, paper="Wang et al. 2019, arXiv 1908.06112")

    def attach(self, plan: Plan) -> None:
        alpha, beta, log_zero = self.config.alpha, self.config.beta, self.config.log_zero
        multilabel = plan.context.task.kind == "multilabel"
        terms = sce_sigmoid_terms if multilabel else sce_softmax_terms

        def loss(output: Output, batch: Batch, moment: Moment) -> Tensor:
            return terms(output.logits, batch.targets, alpha, beta, log_zero)

        plan.add(LOSS, loss)

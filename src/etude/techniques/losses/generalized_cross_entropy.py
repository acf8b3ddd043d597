"""Generalized cross-entropy: between cross-entropy and absolute error, for labels that may be wrong.

Idea: cross-entropy pulls hardest at the examples that the model finds least likely, which among noisy
labels are the wrong ones. The absolute error 1 - p resists them and learns slowly. A power q between
0 and 1 lies between the two, and a truncation leaves out what stays unlikely.

Formula, with logits z (B, C), targets y (B, C), power q and truncation k, as terms (B, C):

* f(p) = (1 - max(p, k)^q) / q; q → 0 is -log p, q = 1 is 1 - p, k = 0 is without truncation
* one label for each example, p = softmax(z): l_bc = y_bc f(p_bc)
* any subset of labels, p = σ(z): l_bc = [y_bc f(p_bc) + (1 - y_bc) f(1 - p_bc)] / C

Paper: Zhang & Sabuncu 2018 (1805.07836), sections 3.2 and, for the truncated loss, 3.3.

When it helps: ten per cent of wrong labels or more, on single-label tasks.
When not: clean labels; many classes with a large q, which then hardly trains from random weights; rare
classes, whose examples stay unlikely and are taken for noise.

Suggested values: q = 0.7, lower with many classes; truncation 0 first, 0.5 in the paper, and only
after the model has learnt the clean part (truncate_after).

Cost: 1 pass; two (B, C) tensors of memory.

Clashes: none; a filter that keeps the hardest examples works against it.

NOTE[DIFF]: the truncated loss is applied as it stands from the given time on, example by example; the
paper minimises it by alternating with a selection of examples that is renewed every ten epochs.
NOTE[DIFF]: the multilabel form is not in the paper; it is the two-class case applied to each label.
"""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor
from torch.nn.functional import logsigmoid

from etude.config.fields import SearchRange, Time, setting
from etude.core.backbone import Output
from etude.core.batch import Batch
from etude.core.phases import LOSS
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Facts, Technique, TechniqueConfig


class GeneralizedCrossEntropyConfig(TechniqueConfig):
    """Settings of the generalized cross-entropy."""

    name: Literal["generalized_cross_entropy"] = "generalized_cross_entropy"
    q: float = setting(
        0.7, help="power: near 0 is cross-entropy, 1 is absolute error", gt=0.0, le=1.0,
        search=SearchRange(0.1, 1.0),
    )  # fmt: skip
    truncation: float = setting(
        0.0, help="labels less probable than this give no gradient; 0 for none", ge=0.0, lt=1.0,
        search=SearchRange(0.0, 0.5),
    )  # fmt: skip
    truncate_after: Time = setting(Time(0.3, "dur"), help="when the truncation begins, as '0.3dur' or '40ep'")


def generalized_cross_entropy(log_p: Tensor, q: float, truncation: float = 0.0) -> Tensor:
    """Return ``(1 - max(p, k)^q) / q``, the loss of an outcome of probability p.

    Args:
        log_p: log probabilities of any shape, 0 or less.
        q: the power, in (0, 1].
        truncation: k in [0, 1).

    Raises:
        ValueError: ``q`` is out of (0, 1].

    >>> import torch
    >>> p = torch.tensor([0.01, 0.25, 0.81])
    >>> generalized_cross_entropy(p.log(), q=0.5)
    tensor([1.8000, 1.0000, 0.2000])
    >>> generalized_cross_entropy(p.log(), q=0.5, truncation=0.25)
    tensor([1.0000, 1.0000, 0.2000])
    """
    if not 0.0 < q <= 1.0:
        raise ValueError(f"q is {q} and must lie in (0, 1]; for q = 0 use cross-entropy")
    if truncation > 0.0:
        log_p = log_p.clamp_min(math.log(truncation))
    return -(q * log_p).expm1() / q


def gce_softmax_terms(logits: Tensor, targets: Tensor, q: float, truncation: float = 0.0) -> Tensor:
    """Return ``y f(p)`` with p the softmax of the logits.

    Args:
        logits: (B, C).
        targets: (B, C), hard or soft, each row summing to one.
        q: the power, in (0, 1].
        truncation: k in [0, 1).

    Returns:
        (B, C) terms, in the logits' precision; the sum over C is the example's loss.

    >>> import torch
    >>> gce_softmax_terms(torch.zeros(1, 4), torch.tensor([[0.0, 1.0, 0.0, 0.0]]), q=0.5)
    tensor([[0., 1., 0., 0.]])
    """
    return targets * generalized_cross_entropy(logits.log_softmax(dim=-1), q, truncation)


def gce_sigmoid_terms(logits: Tensor, targets: Tensor, q: float, truncation: float = 0.0) -> Tensor:
    """Return ``[y f(p) + (1 - y) f(1 - p)] / C`` with p the sigmoid of the logits.

    Args:
        logits: (B, C).
        targets: (B, C) in [0, 1].
        q: the power, in (0, 1].
        truncation: k in [0, 1).

    >>> import torch
    >>> gce_sigmoid_terms(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]), q=1.0)
    tensor([[0.2500, 0.2500]])
    """
    held = targets * generalized_cross_entropy(logsigmoid(logits), q, truncation)
    absent = (1.0 - targets) * generalized_cross_entropy(logsigmoid(-logits), q, truncation)
    return (held + absent) / logits.shape[-1]


class GeneralizedCrossEntropy(Technique[GeneralizedCrossEntropyConfig]):
    """A loss that wrong labels pull at less; the task chooses between its two forms."""

    Config = GeneralizedCrossEntropyConfig
    facts = Facts(family="losses", phase=LOSS, paper="Zhang & Sabuncu 2018, arXiv 1805.07836")

    def attach(self, plan: Plan) -> None:
        q, truncation = self.config.q, self.config.truncation
        first = plan.context.steps(self.config.truncate_after)
        multilabel = plan.context.task.kind == "multilabel"
        terms = gce_sigmoid_terms if multilabel else gce_softmax_terms

        def loss(output: Output, batch: Batch, moment: Moment) -> Tensor:
            now = truncation if moment.step >= first else 0.0
            return terms(output.logits, batch.targets, q, now)

        plan.add(LOSS, loss)

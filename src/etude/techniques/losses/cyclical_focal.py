"""Cyclical focal loss: trust the easy examples first, the hard ones in the middle, the easy ones last.

Idea: early in training a low probability says little, so that it pays to learn from what the model
begins to get right. Then the focal loss turns to the hard cases, and the end is for polishing.

Formula, with logits z (B, C), targets y (B, C), t from 0 to 1 the share of the run that is done and
cyclical factor f, as terms (B, C):

* g(p) = [ξ (1 + p)^γ_hc + (1 - ξ) (1 - p)^γ_lc] (-log p)
* ξ = 1 - f t where f t ≤ 1, and (f t - 1) / (f - 1) after it: 1 at the start, 0 at t = 1/f, 1 at the end
* one label for each example, p = softmax(z): l_bc = y_bc g(p_bc)
* any subset of labels, p = σ(z): l_bc = [y_bc g(p_bc) + (1 - y_bc) g(1 - p_bc)] / C

Paper: Smith 2022 (2202.08978); γ_hc stands for high confidence, γ_lc for low confidence.

When it helps: the paper's balanced, imbalanced and long-tailed images, by a little; runs of many
epochs, in which there is time for three stages.
When not: one or two epochs; loss curves are to be compared over time, since the loss changes its
scale (a factor of up to 2^γ_hc).

Suggested values: γ_hc = 3, γ_lc = 2, f = 4, the hard stage then being early; f = 2 puts it in the middle and
f = 1 goes from easy to hard without a return.

Cost: 1 pass; four (B, C) tensors of memory.

Clashes: none.

NOTE[DIFF]: t is counted in optimizer steps and not in whole epochs, so that short runs cycle too.
NOTE[DIFF]: the multilabel form is not in the paper; it is the two-class case applied to each label.
NOTE[DIFF]: the paper's code smooths labels inside of the loss; that is label_smoothing's work here.
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


class CyclicalFocalConfig(TechniqueConfig):
    """Settings of the cyclical focal loss."""

    name: Literal["cyclical_focal"] = "cyclical_focal"
    gamma_hc: float = setting(
        3.0, help="exponent of 1 + p, for sure examples", ge=0.0, le=10.0, search=SearchRange(1.0, 4.0)
    )
    gamma_lc: float = setting(
        2.0, help="exponent of 1 - p, for hard examples", ge=0.0, le=10.0, search=SearchRange(0.5, 4.0)
    )
    factor: float = setting(
        4.0,
        help="the hard examples have their turn at 1/factor of the run",
        ge=1.0,
        le=100.0,
        search=SearchRange(1.0, 8.0),
    )


def share_of_sure(progress: float, factor: float) -> float:
    """Return ξ, the weight of the high-confidence part of the loss.

    Args:
        progress: t, the share of the run that is done, from 0 to 1.
        factor: f, 1 or more.

    Raises:
        ValueError: ``factor`` is below 1.

    >>> [share_of_sure(t, 4.0) for t in (0.0, 0.125, 0.25, 0.625, 1.0)]
    [1.0, 0.5, 0.0, 0.5, 1.0]
    """
    if factor < 1.0:
        raise ValueError(f"factor is {factor} and must be 1 or more")
    done = factor * progress
    return 1.0 - done if done <= 1.0 else (done - 1.0) / (factor - 1.0)


def cyclical_focal(log_p: Tensor, gamma_hc: float, gamma_lc: float, xi: float) -> Tensor:
    """Return ``[ξ (1 + p)^γ_hc + (1 - ξ) (1 - p)^γ_lc] (-log p)``.

    Args:
        log_p: log probabilities of any shape, 0 or less.
        gamma_hc: exponent for sure examples.
        gamma_lc: exponent for hard examples.
        xi: ξ in [0, 1].

    >>> cyclical_focal(torch.tensor([0.5]).log(), 3.0, 2.0, xi=1.0)  # 1.5³ log 2
    tensor([2.3394])
    """
    # 1 - p rounds to 0 for a sure example, where the power has no finite gradient if γ < 1.
    miss = (-log_p.expm1()).clamp_min(torch.finfo(log_p.dtype).tiny)
    return -log_p * (xi * (1.0 + log_p.exp()).pow(gamma_hc) + (1.0 - xi) * miss.pow(gamma_lc))


def cyclical_focal_softmax_terms(
    logits: Tensor, targets: Tensor, gamma_hc: float, gamma_lc: float, xi: float
) -> Tensor:
    """Return ``y g(p)`` with p the softmax of the logits.

    Args:
        logits: (B, C).
        targets: (B, C), hard or soft, each row summing to one.
        gamma_hc: exponent for sure examples.
        gamma_lc: exponent for hard examples.
        xi: ξ in [0, 1].

    Returns:
        (B, C) terms, in the logits' precision; the sum over C is the example's loss.

    >>> cyclical_focal_softmax_terms(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]), 3.0, 2.0, xi=0.0)
    tensor([[0.1733, 0.0000]])
    """
    return targets * cyclical_focal(logits.log_softmax(dim=-1), gamma_hc, gamma_lc, xi)


def cyclical_focal_sigmoid_terms(
    logits: Tensor, targets: Tensor, gamma_hc: float, gamma_lc: float, xi: float
) -> Tensor:
    """Return ``[y g(p) + (1 - y) g(1 - p)] / C`` with p the sigmoid of the logits.

    Args:
        logits: (B, C).
        targets: (B, C) in [0, 1].
        gamma_hc: exponent for sure examples.
        gamma_lc: exponent for hard examples.
        xi: ξ in [0, 1].

    >>> cyclical_focal_sigmoid_terms(torch.zeros(1, 1), torch.zeros(1, 1), 3.0, 2.0, xi=0.0)
    tensor([[0.1733]])
    """
    held = targets * cyclical_focal(logsigmoid(logits), gamma_hc, gamma_lc, xi)
    absent = (1.0 - targets) * cyclical_focal(logsigmoid(-logits), gamma_hc, gamma_lc, xi)
    return (held + absent) / logits.shape[-1]


class CyclicalFocal(Technique[CyclicalFocalConfig]):
    """The loss whose weights of easy and hard examples follow the run; the task chooses the form."""

    Config = CyclicalFocalConfig
    facts = Facts(family="losses", phase=LOSS, paper="Smith 2022, arXiv 2202.08978")

    def attach(self, plan: Plan) -> None:
        config = self.config
        multilabel = plan.context.task.kind == "multilabel"
        terms = cyclical_focal_sigmoid_terms if multilabel else cyclical_focal_softmax_terms

        def loss(output: Output, batch: Batch, moment: Moment) -> Tensor:
            xi = share_of_sure(moment.progress, config.factor)
            return terms(output.logits, batch.targets, config.gamma_hc, config.gamma_lc, xi)

        plan.add(LOSS, loss)

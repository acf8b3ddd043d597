"""Asymmetric loss: focus on negatives more than on positives, and let the easiest negatives go.

Idea: a multilabel row has a few positives and many negatives, most of them easy. A larger exponent
for negatives turns the easy ones down without touching the rare positives, and a margin silences
negatives whose probability is below it.

Formula, with logits z (B, C), targets y (B, C), p_m = max(p - m, 0) and margin m, as terms (B, C):

* any subset of labels, p = σ(z):
  l_bc = -[y_bc (1 - p_bc)^γ₊ log p_bc + (1 - y_bc) p_m^γ₋ log(1 - p_m)] / C
* one label for each example, p = softmax(z), smoothing ε:
  l_bc = -log p_bc [y_bc (1 - ε + ε/C) (1 - p_bc)^γ₊ + (1 - y_bc) (ε/C) p_bc^γ₋]

Paper: Ridnik et al. 2021 (2009.14119), section 2; the single-label form is that of the authors' code.

When it helps: multilabel tasks with many labels, few of which hold; missing labels, which look like
hard negatives that the margin and the exponent forgive.
When not: balanced labels; probabilities that must be calibrated (they come out too high, because
negatives below the margin never push down).

Suggested values: γ₋ = 4, γ₊ = 1, m = 0.05 on several labels; γ₋ = 4, γ₊ = 0, ε = 0.1 on one. Keep γ₋ > γ₊.

Cost: 1 pass; four (B, C) tensors of memory.

Clashes: none; on single-label tasks label_smoothing smooths once more, so set smoothing = 0 with it.

NOTE[DIFF]: terms are divided by C as in bce, where the paper sums; the learning rate then means the
same whatever the number of labels (multiply it by C for the paper's).
NOTE[DIFF]: gradients flow through the focusing factors, as in the paper; the authors' code can stop them.
NOTE[DIFF]: both forms are linear in soft targets: positive and negative parts share the term in the
proportion y to 1 - y. For hard targets this is the paper's loss.
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


class AsymmetricConfig(TechniqueConfig):
    """Settings of the asymmetric loss."""

    name: Literal["asymmetric"] = "asymmetric"
    gamma_neg: float = setting(
        4.0, help="focusing exponent of negatives", ge=0.0, le=10.0, search=SearchRange(1.0, 6.0)
    )
    gamma_pos: float = setting(
        1.0, help="focusing exponent of positives", ge=0.0, le=10.0, search=SearchRange(0.0, 2.0)
    )
    clip: float = setting(
        0.05,
        help="margin taken off the probability of negatives; multilabel tasks only",
        ge=0.0,
        lt=1.0,
        search=SearchRange(0.0, 0.2),
    )
    smoothing: float = setting(
        0.1,
        help="share of the target moved to all classes; single-label tasks only",
        ge=0.0,
        lt=1.0,
        search=SearchRange(0.0, 0.2),
    )


def _power(base: Tensor, exponent: float) -> Tensor:
    """The power of numbers from 0 to 1, with a finite gradient at 0 also for exponents below 1."""
    return base.clamp_min(torch.finfo(base.dtype).tiny).pow(exponent)


def asymmetric_sigmoid_terms(
    logits: Tensor, targets: Tensor, gamma_neg: float, gamma_pos: float, clip: float
) -> Tensor:
    """Return the asymmetric loss of each label, divided by C.

    Args:
        logits: (B, C).
        targets: (B, C) in [0, 1].
        gamma_neg: γ₋, 0 or more.
        gamma_pos: γ₊, 0 or more.
        clip: margin m in [0, 1).

    Returns:
        (B, C) terms, in the logits' precision.

    >>> z, y = torch.tensor([[0.0, 0.0, -4.0]]), torch.tensor([[1.0, 0.0, 0.0]])
    >>> 3 * asymmetric_sigmoid_terms(z, y, gamma_neg=4.0, gamma_pos=1.0, clip=0.05)
    tensor([[0.3466, 0.0245, 0.0000]])
    """
    log_p, log_q = logsigmoid(logits), logsigmoid(-logits)
    positive = targets * (gamma_pos * log_q).exp() * log_p
    if clip > 0.0:
        clipped = (log_p.exp() - clip).clamp_min(0.0)
        negative = _power(clipped, gamma_neg) * (-clipped).log1p()
    else:
        negative = (gamma_neg * log_p).exp() * log_q
    return -(positive + (1.0 - targets) * negative) / logits.shape[-1]


def asymmetric_softmax_terms(
    logits: Tensor, targets: Tensor, gamma_neg: float, gamma_pos: float, smoothing: float
) -> Tensor:
    """Return the single-label form, in which smoothed targets give the other classes their part.

    Args:
        logits: (B, C).
        targets: (B, C), hard or soft, each row summing to one.
        gamma_neg: γ₋, 0 or more.
        gamma_pos: γ₊, 0 or more.
        smoothing: ε in [0, 1).

    Returns:
        (B, C) terms, in the logits' precision; the sum over C is the example's loss.

    >>> y = torch.tensor([[1.0, 0.0]])
    >>> asymmetric_softmax_terms(torch.zeros(1, 2), y, gamma_neg=4.0, gamma_pos=1.0, smoothing=0.1)
    tensor([[0.3292, 0.0022]])
    """
    log_p, spread = logits.log_softmax(dim=-1), smoothing / logits.shape[-1]
    positive = targets * (1.0 - smoothing + spread) * _power(-log_p.expm1(), gamma_pos)
    negative = (1.0 - targets) * spread * (gamma_neg * log_p).exp()
    return -log_p * (positive + negative)


class Asymmetric(Technique[AsymmetricConfig]):
    """The loss of few positives among many negatives; the task chooses between its two forms."""

    Config = AsymmetricConfig
    facts = Facts(family="losses", phase=LOSS, paper="Ridnik et al. 2021, arXiv 2009.14119")

    def attach(self, plan: Plan) -> None:
        config = self.config
        multilabel = plan.context.task.kind == "multilabel"
        terms, last = (
            (asymmetric_sigmoid_terms, config.clip)
            if multilabel
            else (asymmetric_softmax_terms, config.smoothing)
        )

        def loss(output: Output, batch: Batch, moment: Moment) -> Tensor:
            return terms(output.logits, batch.targets, config.gamma_neg, config.gamma_pos, last)

        plan.add(LOSS, loss)

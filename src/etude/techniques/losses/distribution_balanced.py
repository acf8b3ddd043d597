"""Distribution-balanced loss: binary cross-entropy for many labels with a long tail.

Idea: two things go wrong when rare labels come with frequent ones. Showing rare labels more often
shows their companions more often still; weights by row and label undo that. And each label has far
more negatives than positives, which push its logit down without end; negatives that tolerate a logit
which is low already leave the tail alone.

Formula, with logits z (B, C), targets y (B, C), and n_c of N training rows that hold label c, as terms
(B, C):

* weights (B, C): r_bc = (1/n_c) / Σ_d y_bd / n_d, smoothed to w_bc = α + σ(β (r_bc - μ))
* offsets (C,): v_c = κ log(N / n_c - 1)
* f(p) = (1 - p)^γ (-log p), where γ = 0 is cross-entropy
* l_bc = w_bc [y_bc f(σ(z_bc - v_c)) + (1 - y_bc) f(σ(-λ (z_bc - v_c))) / λ] / C

Paper: Wu et al. 2020 (2007.09654), section 3; on texts: Huang et al. 2021 (2109.04712).

When it helps: dozens of labels or more, some of them in few rows, several in a row; macro averages.
When not: labels of similar size, or a micro average as the score; few labels.

Suggested values: α = 0.1, β = 10, μ = 0.2 to 0.3 (higher with fewer labels in a row; 0.9 was used for
texts with mostly one label); λ = 2, κ = 0.05; γ = 0, or 2 with the learning rate doubled. The paper
samples rows by label beside it (weighted_sampling), and r is exact only then.

Cost: 1 pass; five (B, C) tensors of memory.

Clashes: class_weights, which correct the same imbalance again; single-label tasks are refused.

NOTE[DIFF]: a row without any label has r = infinity in the formula, and so the largest weight, 1 + α.
NOTE[DIFF]: the authors' first code divided κ by λ; here it stands as in the paper. Their factor of 2 on
the focal form is left to the learning rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import logsigmoid

from etude.config.fields import SearchRange, setting
from etude.core.backbone import Output
from etude.core.batch import Batch
from etude.core.phases import LOSS
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Facts, Technique, TechniqueConfig
from etude.errors import ConfigError


class DistributionBalancedConfig(TechniqueConfig):
    """Settings of the distribution-balanced loss."""

    name: Literal["distribution_balanced"] = "distribution_balanced"
    alpha: float = setting(0.1, help="α, the smallest weight of a term", ge=0.0, le=10.0)
    beta: float = setting(10.0, help="β, how steeply the weight rises", ge=0.0, le=1000.0)
    mu: float = setting(
        0.2,
        help="μ, the share at which the weight is half way",
        ge=0.0,
        le=1.0,
        search=SearchRange(0.05, 0.9),
    )
    kappa: float = setting(
        0.05, help="κ, scale of the labels' offsets", ge=0.0, le=1.0, search=SearchRange(0.0, 0.1)
    )
    negative_scale: float = setting(
        2.0, help="λ, how much negatives tolerate", ge=1.0, le=100.0, search=SearchRange(1.0, 5.0)
    )
    focal_gamma: float = setting(
        0.0, help="focusing exponent γ; 0 for cross-entropy", ge=0.0, le=10.0, search=SearchRange(0.0, 3.0)
    )


def rebalanced_weights(targets: Tensor, counts: Tensor, alpha: float, beta: float, mu: float) -> Tensor:
    """Return ``α + σ(β (r - μ))`` with r the share of label c in the reasons to show row b.

    Args:
        targets: (B, C) in [0, 1].
        counts: (C,) rows that hold each label, above 0.
        alpha: α, the smallest weight.
        beta: β, the steepness.
        mu: μ, the share at which the weight is half way.

    Returns:
        (B, C) weights from α to 1 + α.

    >>> y, n = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]), torch.tensor([4.0, 1.0])
    >>> rebalanced_weights(y, n, alpha=0.1, beta=10.0, mu=0.2)
    tensor([[1.0997, 1.1000],
            [0.6000, 1.0975],
            [1.1000, 1.1000]])
    """
    rarity = 1.0 / counts.to(targets)
    share = rarity / (targets * rarity).sum(dim=1, keepdim=True)
    return alpha + torch.sigmoid(beta * (share - mu))


def label_offsets(class_counts: NDArray[Any] | Sequence[int], n_rows: int, kappa: float) -> Tensor:
    """Return ``κ log(N / n_c - 1)`` of each label, (C,) in float64.

    Raises:
        ValueError: a label holds in no row or in all rows, so that its offset is infinite.

    >>> label_offsets([10, 50], 100, kappa=1.0)
    tensor([2.1972, 0.0000], dtype=torch.float64)
    """
    counts = torch.as_tensor(class_counts, dtype=torch.float64)
    for c, count in enumerate(counts.tolist()):
        if not 0 < count < n_rows:
            raise ValueError(
                f"label {c} holds in {count:.0f} of {n_rows} rows and needs some with and without"
            )
    return kappa * (n_rows / counts - 1.0).log()


def negative_tolerant_terms(
    logits: Tensor, targets: Tensor, offsets: Tensor, negative_scale: float, focal_gamma: float = 0.0
) -> Tensor:
    """Return ``[y f(σ(z - v)) + (1 - y) f(σ(-λ (z - v))) / λ] / C``, before the weights.

    Args:
        logits: (B, C).
        targets: (B, C) in [0, 1].
        offsets: (C,), v.
        negative_scale: λ, 1 or more.
        focal_gamma: γ, 0 or more.

    Returns:
        (B, C) terms, in the logits' precision.

    >>> z, y = torch.tensor([[-2.0, -2.0]]), torch.tensor([[0.0, 0.0]])
    >>> negative_tolerant_terms(z, y, torch.zeros(2), negative_scale=1.0)
    tensor([[0.0635, 0.0635]])
    >>> negative_tolerant_terms(z, y, torch.zeros(2), negative_scale=2.0)
    tensor([[0.0045, 0.0045]])
    """
    shifted = logits - offsets
    held = targets * _focal(shifted, focal_gamma)
    absent = (1.0 - targets) * _focal(-negative_scale * shifted, focal_gamma) / negative_scale
    return (held + absent) / logits.shape[-1]


def _focal(logits: Tensor, gamma: float) -> Tensor:
    """The loss of outcomes whose probability is the sigmoid of the logits."""
    return -(gamma * logsigmoid(-logits)).exp() * logsigmoid(logits)


class DistributionBalanced(Technique[DistributionBalancedConfig]):
    """Re-balanced weights on a binary cross-entropy that tolerates negatives."""

    Config = DistributionBalancedConfig
    facts = Facts(
        family="losses",
        phase=LOSS,
        paper="Wu et al. 2020, arXiv 2007.09654; Huang et al. 2021, arXiv 2109.04712",
        tasks=frozenset({"multilabel"}),
        clashes={"class_weights": "both correct the same imbalance, twice over; remove one of them"},
    )

    def attach(self, plan: Plan) -> None:
        config, context = self.config, plan.context
        try:
            offsets = label_offsets(context.class_counts, context.n_rows, config.kappa)
        except ValueError as error:
            raise ConfigError(f"distribution_balanced: {error}; remove the label, or use bce") from None
        counts = torch.as_tensor(context.class_counts, dtype=torch.float64)

        def loss(output: Output, batch: Batch, moment: Moment) -> Tensor:
            logits, targets = output.logits, batch.targets.to(output.logits)
            weights = rebalanced_weights(targets, counts.to(logits), config.alpha, config.beta, config.mu)
            terms = negative_tolerant_terms(
                logits, targets, offsets.to(logits), config.negative_scale, config.focal_gamma
            )
            return weights * terms

        plan.add(LOSS, loss)

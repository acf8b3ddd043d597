"""Supervised contrastive loss: features of rows with the same label shall lie together.

Idea: the classifier's loss looks at one row at a time and is content once the row is on the right
side. Beside it, this loss looks at the whole batch: each row shall be closer to the rows of its label
than to all others, which gives features that need fewer examples.

Formula, with features h (B, D) of the whole batch, u = h / ||h||, temperature T and weights w (B,):

* s_ij = u_i · u_j / T, log p_ij = s_ij - log Σ_{k ≠ i} exp(s_ik)
* of row i and its label c: l_ic = -mean of log p_ij over the other rows j that hold c
* loss = weight · Σ_ic w_i l_ic / Σ_ic w_i, over the pairs (i, c) for which such a row exists
* it is added to the main loss

Paper: Khosla et al. 2020 (2004.11362), equation 2 (the sum outside of the logarithm); beside cross-entropy
on texts: Gunel et al. 2021 (2011.01403); several labels: Zhang & Wu 2024, Multi-label supervised
contrastive learning, AAAI; exact with micro-batches: Gao et al. 2021 (2101.06983).

When it helps: few training rows, noisy rows, features that shall serve other tasks as well.
When not: batches so small that a label rarely meets itself (more classes than rows); much data and
a main loss that does well; a frozen backbone, whose features it cannot move.

Suggested values: weight 0.1 to 1; temperature 0.1, from 0.05 to 0.5 (Gunel et al. 0.3); as large a batch as
the optimizer likes, since micro-batches change nothing.

Cost: 1 pass; (B, B) and (B, C) tensors; with micro-batches one more forward pass.

Clashes: whatever makes targets soft, since rows then have no label in common or all of them.

NOTE[DIFF]: features under the head are compared as they are: there is no projection head and no second
view of each row. A row whose labels nobody else holds gives no term, and is still a contrast to others.
NOTE[DIFF]: on single-label tasks the mean is over rows with a partner, where the paper has one always.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from etude.config.fields import SearchRange, setting
from etude.core.batch import Batch
from etude.core.phases import BATCH_LOSS
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Facts, Technique, TechniqueConfig


class SupervisedContrastiveConfig(TechniqueConfig):
    """Settings of the supervised contrastive loss."""

    name: Literal["supervised_contrastive"] = "supervised_contrastive"
    weight: float = setting(
        0.5, help="weight beside the main loss; 0 is none", ge=0.0, le=100.0,
        search=SearchRange(0.05, 5.0, "log"),
    )  # fmt: skip
    temperature: float = setting(
        0.1, help="T, divides the cosines; small is strict", gt=0.0, le=10.0,
        search=SearchRange(0.05, 0.5, "log"),
    )  # fmt: skip


def supervised_contrastive(
    features: Tensor, targets: Tensor, weights: Tensor, temperature: float = 0.1
) -> Tensor:
    """Return the weighted mean of the contrastive losses of all rows and labels.

    Args:
        features: (B, D), of any length.
        targets: (B, C), zeros and ones; one or several labels in a row.
        weights: (B,), 0 or more, of each row as the one that is compared.
        temperature: T above 0.

    Returns:
        A number; 0 where no two rows share a label.

    >>> rows = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0], [0.0, 1.0]])
    >>> together, apart = torch.eye(2).repeat_interleave(2, dim=0), torch.eye(2).repeat(2, 1)
    >>> supervised_contrastive(rows, together, torch.ones(4), temperature=1.0)
    tensor(0.5514)
    >>> supervised_contrastive(rows, apart, torch.ones(4), temperature=1.0)
    tensor(1.5514)
    """
    # A longer epsilon than torch's keeps the gradient of a feature of zeros finite.
    unit = normalize(features, dim=1, eps=1e-6)
    itself = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    cosines = (unit @ unit.T / temperature).masked_fill(itself, torch.finfo(unit.dtype).min)
    log_p = cosines.log_softmax(dim=1).masked_fill(itself, 0.0)
    held = targets.to(unit)
    partners = held.sum(dim=0) - held
    has_partner = held * (partners > 0)
    terms = -(log_p @ held) / partners.clamp_min(1.0)
    counted = weights.to(unit).unsqueeze(1) * has_partner
    return (counted * terms).sum() / counted.sum().clamp_min(1e-12)


class SupervisedContrastive(Technique[SupervisedContrastiveConfig]):
    """Adds the contrastive loss of the whole macro-batch to the main loss."""

    Config = SupervisedContrastiveConfig
    facts = Facts(
        family="losses",
        phase=BATCH_LOSS,
        paper="Khosla et al. 2020, arXiv 2004.11362; Gunel et al. 2021, arXiv 2011.01403; "
        "Zhang & Wu 2024, AAAI",
        accepts_soft_targets=False,
        neutral={"weight": 0.0},
    )

    def attach(self, plan: Plan) -> None:
        weight, temperature = self.config.weight, self.config.temperature
        if weight == 0.0:
            return

        def loss(features: Tensor, batch: Batch, moment: Moment) -> Tensor:
            features = features if features.dtype == torch.float64 else features.float()
            return weight * supervised_contrastive(features, batch.targets, batch.weights, temperature)

        plan.add(BATCH_LOSS, loss)

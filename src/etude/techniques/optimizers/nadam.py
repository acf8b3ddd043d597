"""NAdam: AdamW with Nesterov's look-ahead in its momentum.

Idea: Adam steps along the average of past gradients; NAdam steps along what that average will be after
the next gradient, which brakes earlier at the other side of a valley.

Formula, for every weight w with gradient g at step t, learning rate η, decay λ and momentum decay ψ:

* μ_t = β1 (1 - 0.96^(t ψ) / 2);  Π_t = μ_1 μ_2 ... μ_t
* m = β1 m + (1 - β1) g;  v = β2 v + (1 - β2) g²
* m̂ = μ_(t+1) m / (1 - Π_(t+1)) + (1 - μ_t) g / (1 - Π_t)
* w' = (1 - η λ) w - η m̂ / (sqrt(v / (1 - β2^t)) + ε)

Paper: Dozat 2016 (ICLR workshop, "Incorporating Nesterov momentum into Adam"), algorithm 2.

When it helps: wherever Adam does, most in small models from scratch; a cheap thing to try.
When not: a fine-tuned transformer gains little over AdamW, and the fused kernel is missing.

Suggested values: lr 1e-5 to 2e-4 to fine-tune, 2e-3 from scratch; momentum decay 0.004.

Cost: 1 pass; two numbers for each weight.

Clashes: another optimizer.

NOTE[DIFF]: the paper has no weight decay; here it is decoupled, as in AdamW.
"""

from __future__ import annotations

from typing import Literal

import torch

from etude.config.fields import SearchRange, setting
from etude.core.phases import OPTIMIZER
from etude.core.technique import Facts
from etude.techniques._optimizer_base import AdamLikeConfig, Groups, OptimizerTechnique


class NAdamConfig(AdamLikeConfig):
    """Settings of NAdam."""

    name: Literal["nadam"] = "nadam"
    momentum_decay: float = setting(
        0.004, help="how fast the momentum rises to β1", ge=0.0, search=SearchRange(1e-3, 1e-2, "log")
    )


def make_nadam(
    groups: Groups, betas: tuple[float, float], eps: float, momentum_decay: float
) -> torch.optim.NAdam:
    """Return torch's NAdam, with decoupled decay, over groups with ``params``, ``lr``, ``weight_decay``.

    Args:
        groups: parameter groups; further keys are kept.
        betas: β1 and β2 in [0, 1).
        eps: ε above 0.
        momentum_decay: ψ, at least 0.

    Raises:
        ValueError: a value is out of its bounds.

    With ψ = 0 the momentum is half of β1 from the beginning, and the first step of a weight is
    ``lr * (μ (1 - β1) / (1 - μ²) + 1)``, here with μ = 0.4:

    >>> w = torch.nn.Parameter(torch.tensor([1.0]))
    >>> w.grad = torch.tensor([3.0])
    >>> make_nadam([{"params": [w], "lr": 0.1, "weight_decay": 0.0}], (0.8, 0.999), 1e-8, 0.0).step()
    >>> round(1 - 0.1 * (0.4 * 0.2 / (1 - 0.16) + 1), 4), w.data
    (0.8905, tensor([0.8905]))
    """
    return torch.optim.NAdam(
        groups, betas=betas, eps=eps, momentum_decay=momentum_decay, decoupled_weight_decay=True
    )


class NAdam(OptimizerTechnique[NAdamConfig]):
    """Updates the weights by NAdam."""

    Config = NAdamConfig
    facts = Facts(family="optimizers", phase=OPTIMIZER, paper="Dozat 2016, ICLR workshop")

    def make(self, groups: Groups) -> torch.optim.NAdam:
        return make_nadam(groups, self.config.betas, self.config.eps, self.config.momentum_decay)

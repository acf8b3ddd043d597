"""RAdam: AdamW that holds back while its average of squared gradients knows too little.

Idea: over the first steps Adam divides by a root estimated from a handful of gradients, whose variance
is large; RAdam takes plain momentum steps until that variance can be bounded, and then shrinks its
steps by what is left of it: a warm-up that nobody has to choose.

Formula, for every weight w with gradient g at step t, learning rate η and decay λ:

* m = β1 m + (1 - β1) g;  v = β2 v + (1 - β2) g²;  m̂ = m / (1 - β1^t)
* ρ = 2 / (1 - β2) - 1;  ρ_t = ρ - 2 t β2^t / (1 - β2^t)
* where ρ_t > 5: r = sqrt((ρ_t - 4)(ρ_t - 2) ρ / ((ρ - 4)(ρ - 2) ρ_t)) and
  w' = (1 - η λ) w - η r m̂ sqrt(1 - β2^t) / (sqrt(v) + ε)
* else w' = (1 - η λ) w - η m̂

Paper: Liu et al. 2020 (1908.03265), algorithm 2.

When it helps: instead of a warm-up, where the length of one is not known.
When not: beside a warm-up, which does the same work.

Suggested values: lr 1e-5 to 2e-4 to fine-tune, 1e-3 from scratch; β2 0.999 holds back for 5 steps and
is half free after some 600 steps.

Cost: 1 pass; two numbers for each weight.

Clashes: another optimizer.

NOTE[DIFF]: the rectified step begins above ρ_t = 5 as in torch; the paper has 4. Weight decay is
decoupled, as in the paper's appendix.
"""

from __future__ import annotations

from typing import Literal

import torch

from etude.core.phases import OPTIMIZER
from etude.core.technique import Facts
from etude.techniques._optimizer_base import AdamLikeConfig, Groups, OptimizerTechnique


class RAdamConfig(AdamLikeConfig):
    """Settings of RAdam."""

    name: Literal["radam"] = "radam"


def make_radam(groups: Groups, betas: tuple[float, float], eps: float) -> torch.optim.RAdam:
    """Return torch's RAdam, with decoupled decay, over groups with ``params``, ``lr``, ``weight_decay``.

    Args:
        groups: parameter groups; further keys are kept.
        betas: β1 and β2 in [0, 1).
        eps: ε above 0.

    Raises:
        ValueError: a value is out of its bounds.

    The first step is one of plain descent, where Adam's would be the learning rate itself:

    >>> w = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    >>> w.grad = torch.tensor([0.5, -4.0])
    >>> make_radam([{"params": [w], "lr": 0.1, "weight_decay": 0.0}], (0.9, 0.999), 1e-8).step()
    >>> w.data
    tensor([ 0.9500, -1.6000])
    """
    return torch.optim.RAdam(groups, betas=betas, eps=eps, decoupled_weight_decay=True)


class RAdam(OptimizerTechnique[RAdamConfig]):
    """Updates the weights by RAdam."""

    Config = RAdamConfig
    facts = Facts(family="optimizers", phase=OPTIMIZER, paper="Liu et al. 2020, arXiv 1908.03265")

    def make(self, groups: Groups) -> torch.optim.RAdam:
        return make_radam(groups, self.config.betas, self.config.eps)

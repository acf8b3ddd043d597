"""AdamW: Adam with weight decay decoupled from the gradient.

Idea: each weight moves by its averaged gradient over the root of its averaged squared gradient, and
apart from that shrinks by a fixed share of itself.

Formula, for every weight w with gradient g at step t, learning rate η and decay λ:

* m = β1 m + (1 - β1) g;  v = β2 v + (1 - β2) g²
* w' = (1 - η λ) w - η (m / (1 - β1^t)) / (sqrt(v / (1 - β2^t)) + ε)

Paper: Loshchilov and Hutter 2019 (1711.05101), algorithm 2; Adam is Kingma and Ba 2015 (1412.6980).

When it helps: the first choice for transformers, fine-tuned or from scratch.
When not: where memory for two numbers a weight is missing.

Suggested values: lr 1e-5 to 2e-4 to fine-tune, 1e-3 to 1e-2 from scratch; weight decay 0.01, up to
0.1 for tables. A larger ε (1e-6) calms training in low precision.

Cost: 1 pass; two numbers for each weight. The fused kernel is used wherever it exists; on two CPU
cores it took 28 ms over 22.7 M weights, and the multi-tensor one 165 ms.

Clashes: another optimizer.

NOTE[DIFF]: the paper's decay does not depend on the learning rate's base value, only on its schedule;
here, as in torch, the decay of a step is η λ. It is not L2 regularisation: see ``adam`` for that.
"""

from __future__ import annotations

from typing import Literal

import torch

from etude.core.phases import OPTIMIZER
from etude.core.technique import Facts
from etude.techniques._optimizer_base import (
    AdamLikeConfig,
    Groups,
    OptimizerTechnique,
    can_fuse,
    decoupled_decay,
    learning_rate,
)


class AdamWConfig(AdamLikeConfig):
    """Settings of AdamW."""

    name: Literal["adamw"] = "adamw"
    lr: float = learning_rate(1e-4, 1e-5, 1e-3)
    weight_decay: float = decoupled_decay(0.01)


def make_adamw(groups: Groups, betas: tuple[float, float], eps: float) -> torch.optim.AdamW:
    """Return torch's AdamW over groups that carry ``params``, ``lr`` and ``weight_decay``.

    Args:
        groups: parameter groups; further keys are kept.
        betas: β1 and β2 in [0, 1).
        eps: ε above 0.

    Raises:
        ValueError: a value is out of its bounds.

    The first step moves every weight by the learning rate, against the sign of its gradient:

    >>> w = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    >>> w.grad = torch.tensor([0.3, -40.0])
    >>> make_adamw([{"params": [w], "lr": 0.1, "weight_decay": 0.0}], (0.9, 0.999), 1e-8).step()
    >>> w.data
    tensor([ 0.9000, -1.9000])
    """
    return torch.optim.AdamW(groups, betas=betas, eps=eps, fused=can_fuse(groups))


class AdamW(OptimizerTechnique[AdamWConfig]):
    """Updates the weights by AdamW."""

    Config = AdamWConfig
    facts = Facts(family="optimizers", phase=OPTIMIZER, paper="Loshchilov and Hutter 2019, arXiv 1711.05101")

    def make(self, groups: Groups) -> torch.optim.AdamW:
        return make_adamw(groups, self.config.betas, self.config.eps)

"""Adam: steps scaled by a running average of the squared gradient.

Idea: weights with large gradients take smaller steps than plain descent would give them, so that one
learning rate suits all of them.

Formula, for every weight w with gradient g at step t, learning rate η and L2 penalty λ:

* g' = g + λ w
* m = β1 m + (1 - β1) g';  v = β2 v + (1 - β2) g'²
* w' = w - η (m / (1 - β1^t)) / (sqrt(v / (1 - β2^t)) + ε)

Paper: Kingma and Ba 2015 (1412.6980), algorithm 1.

When it helps: without weight decay it equals AdamW without weight decay; a baseline for comparison.
When not: with weight decay, where AdamW is the better choice (Loshchilov and Hutter 2019, 1711.05101).

Suggested values: lr 1e-5 to 2e-4 to fine-tune, 1e-3 from scratch; weight decay 0.

Cost: 1 pass; two numbers for each weight. The fused kernel is used wherever it exists.

Clashes: another optimizer.

NOTE[DIFF]: the paper has no weight decay. Here it is L2 regularisation: λ w is added to the gradient
and so divided by the same root as the gradient, which leaves weights with large gradients almost
without decay. AdamW's decay is often called L2 as well and is not: it is decoupled from the gradient.
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
    l2_penalty,
    learning_rate,
)


class AdamConfig(AdamLikeConfig):
    """Settings of Adam."""

    name: Literal["adam"] = "adam"
    lr: float = learning_rate(1e-4, 1e-5, 1e-3)
    weight_decay: float = l2_penalty(0.0)


def make_adam(groups: Groups, betas: tuple[float, float], eps: float) -> torch.optim.Adam:
    """Return torch's Adam over groups that carry ``params``, ``lr`` and ``weight_decay``.

    Args:
        groups: parameter groups; further keys are kept.
        betas: β1 and β2 in [0, 1).
        eps: ε above 0.

    Raises:
        ValueError: a value is out of its bounds.

    A gradient of zero and an L2 penalty move a weight by the whole learning rate, however small the
    penalty is; AdamW would have moved it by ``lr * weight_decay`` of itself:

    >>> w = torch.nn.Parameter(torch.tensor([1.0]))
    >>> w.grad = torch.zeros(1)
    >>> make_adam([{"params": [w], "lr": 0.1, "weight_decay": 0.01}], (0.9, 0.999), 1e-8).step()
    >>> w.data
    tensor([0.9000])
    """
    return torch.optim.Adam(groups, betas=betas, eps=eps, fused=can_fuse(groups))


class Adam(OptimizerTechnique[AdamConfig]):
    """Updates the weights by Adam."""

    Config = AdamConfig
    facts = Facts(family="optimizers", phase=OPTIMIZER, paper="Kingma and Ba 2015, arXiv 1412.6980")

    def make(self, groups: Groups) -> torch.optim.Adam:
        return make_adam(groups, self.config.betas, self.config.eps)

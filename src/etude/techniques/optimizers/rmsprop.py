"""RMSprop: steps divided by a running root mean square of the gradient.

Idea: divide each gradient by its recent size, so that one learning rate suits weights whose gradients
differ by orders of magnitude.

Formula, for every weight w with gradient g, learning rate η, memory α, momentum μ and L2 penalty λ:

* g' = g + λ w;  v = α v + (1 - α) g'²
* b = μ b + g' / (sqrt(v) + ε);  w' = w - η b

Paper: Tieleman and Hinton 2012, Neural Networks for Machine Learning, lecture 6e.

When it helps: recurrent networks and reinforcement learning, where it is the habit; half of Adam's
memory without momentum.
When not: short fine-tuning: it has no correction for its start, so that the first steps are up to
1 / sqrt(1 - α) times too large.

Suggested values: lr 1e-5 to 1e-3, memory 0.9 (the lecture's; torch's own default is 0.99), momentum 0;
weight decay 0.

Cost: 1 pass; one number for each weight, two with momentum.

Clashes: another optimizer.

NOTE[DIFF]: ε stands outside the root, as in torch; the lecture has none. The lecture has no weight
decay; here it is L2 regularisation, as in Adam.
"""

from __future__ import annotations

from typing import Literal

import torch

from etude.config.fields import SearchRange, setting
from etude.core.phases import OPTIMIZER
from etude.core.technique import Facts
from etude.techniques._optimizer_base import (
    Groups,
    OptimizerConfig,
    OptimizerTechnique,
    epsilon,
    l2_penalty,
    learning_rate,
)


class RMSpropConfig(OptimizerConfig):
    """Settings of RMSprop."""

    name: Literal["rmsprop"] = "rmsprop"
    lr: float = learning_rate(1e-4, 1e-5, 1e-2)
    weight_decay: float = l2_penalty(0.0)
    alpha: float = setting(
        0.9, help="memory of the squared gradient", ge=0.0, lt=1.0, search=SearchRange(0.9, 0.99)
    )
    momentum: float = setting(
        0.0, help="share of the velocity that is kept", ge=0.0, lt=1.0, search=SearchRange(0.0, 0.9)
    )
    eps: float = epsilon(1e-8)


def make_rmsprop(groups: Groups, alpha: float, momentum: float, eps: float) -> torch.optim.RMSprop:
    """Return torch's RMSprop over groups that carry ``params``, ``lr`` and ``weight_decay``.

    Args:
        groups: parameter groups; further keys are kept.
        alpha: α in [0, 1).
        momentum: μ in [0, 1).
        eps: ε above 0.

    Raises:
        ValueError: a value is negative.

    The first step is the learning rate over the root of 1 - α:

    >>> w = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    >>> w.grad = torch.tensor([0.3, -40.0])
    >>> make_rmsprop([{"params": [w], "lr": 0.1, "weight_decay": 0.0}], 0.75, 0.0, 1e-8).step()
    >>> w.data
    tensor([ 0.8000, -1.8000])
    """
    return torch.optim.RMSprop(groups, alpha=alpha, momentum=momentum, eps=eps)


class RMSprop(OptimizerTechnique[RMSpropConfig]):
    """Updates the weights by RMSprop."""

    Config = RMSpropConfig
    facts = Facts(
        family="optimizers",
        phase=OPTIMIZER,
        paper="Tieleman and Hinton 2012, Neural Networks for Machine Learning, lecture 6e",
    )

    def make(self, groups: Groups) -> torch.optim.RMSprop:
        return make_rmsprop(groups, self.config.alpha, self.config.momentum, self.config.eps)

"""SGD: gradient descent with momentum.

Idea: the weights roll downhill like a ball with friction; momentum carries them through noise and
along flat valleys.

Formula, for every weight w with gradient g, learning rate η, momentum μ and L2 penalty λ:

* g' = g + λ w;  b = μ b + g' (b = g' in the first step)
* w' = w - η b, or with Nesterov's look-ahead w' = w - η (g' + μ b)

Paper: Sutskever et al. 2013 (ICML), section 2; Polyak 1964; Nesterov 1983.

When it helps: convolutional networks from scratch; a baseline; little memory.
When not: transformers, whose parts need steps of very different sizes.

Suggested values: lr 0.01 to 0.1, momentum 0.9, Nesterov on; weight decay 1e-4 to 5e-4.

Cost: 1 pass; one number for each weight, none without momentum. The fused kernel is used wherever it
exists.

Clashes: another optimizer.

NOTE[DIFF]: the learning rate multiplies the momentum's buffer when it is used, as in torch; in the
paper it multiplies the gradient when it enters the buffer. The two differ while the rate changes.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import model_validator

from etude.config.fields import SearchRange, setting
from etude.core.phases import OPTIMIZER
from etude.core.technique import Facts
from etude.techniques._optimizer_base import (
    Groups,
    OptimizerConfig,
    OptimizerTechnique,
    can_fuse,
    l2_penalty,
    learning_rate,
)


class SGDConfig(OptimizerConfig):
    """Settings of SGD."""

    name: Literal["sgd"] = "sgd"
    lr: float = learning_rate(0.01, 1e-3, 0.3)
    weight_decay: float = l2_penalty(0.0, 1e-5, 1e-2)
    momentum: float = setting(
        0.9, help="share of the velocity that is kept", ge=0.0, lt=1.0, search=SearchRange(0.8, 0.99)
    )
    nesterov: bool = setting(False, help="look ahead along the velocity")

    @model_validator(mode="after")
    def _look_ahead_along_something(self) -> SGDConfig:
        if self.nesterov and self.momentum == 0.0:
            raise ValueError("nesterov = true needs a momentum above 0; set momentum = 0.9")
        return self


def make_sgd(groups: Groups, momentum: float, *, nesterov: bool) -> torch.optim.SGD:
    """Return torch's SGD over groups that carry ``params``, ``lr`` and ``weight_decay``.

    Args:
        groups: parameter groups; further keys are kept.
        momentum: μ in [0, 1).
        nesterov: whether to look ahead.

    Raises:
        ValueError: ``nesterov`` without momentum.

    >>> w = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    >>> w.grad = torch.tensor([0.5, -1.0])
    >>> make_sgd([{"params": [w], "lr": 0.1, "weight_decay": 0.0}], 0.9, nesterov=True).step()
    >>> w.data
    tensor([ 0.9050, -1.8100])
    """
    return torch.optim.SGD(groups, momentum=momentum, nesterov=nesterov, fused=can_fuse(groups))


class SGD(OptimizerTechnique[SGDConfig]):
    """Updates the weights by SGD with momentum."""

    Config = SGDConfig
    facts = Facts(family="optimizers", phase=OPTIMIZER, paper="Sutskever et al. 2013, ICML")

    def make(self, groups: Groups) -> torch.optim.SGD:
        return make_sgd(groups, self.config.momentum, nesterov=self.config.nesterov)

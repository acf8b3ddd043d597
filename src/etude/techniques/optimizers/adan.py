"""Adan: Adam with Nesterov's momentum, written with the differences of successive gradients.

Idea: Nesterov's method needs the gradient at a point ahead; the difference to the last gradient tells
nearly the same without another pass.

Formula, for every weight w with gradient g, the gradient h of the step before, learning rate η and
decay λ, with memories β1, β2, β3 (bias corrections by 1 - β^t are written as hats):

* m = β1 m + (1 - β1) g;  d = β2 d + (1 - β2) (g - h)
* n = β3 n + (1 - β3) (g + β2 (g - h))²
* w' = (w - η (m̂ + β2 d̂) / (sqrt(n̂) + ε)) / (1 + η λ)

Paper: Xie et al. 2022 (2208.06677), algorithm 1.

When it helps: large batches, high learning rates; vision and language models from scratch.
When not: memory is short: it keeps four numbers for each weight.

Suggested values: lr 5 to 10 times AdamW's, 1e-4 to 2e-3; decay 0.02; betas (0.98, 0.92, 0.99).

Cost: 1 pass; four numbers for each weight.

Clashes: another optimizer.

NOTE[DIFF]: memories are written as in the authors' code, 1 minus the paper's β. The first step takes
h = g, so that d begins at zero. The paper's restart condition is left out, as in the authors' code.
"""

from __future__ import annotations

from typing import Literal

from torch.optim import Optimizer

from etude.config.fields import setting
from etude.core.phases import OPTIMIZER
from etude.core.technique import Facts
from etude.techniques._optimizer_base import (
    Assembly,
    Beta,
    Groups,
    LibraryOptimizerTechnique,
    OptimizerConfig,
    Part,
    decoupled_decay,
    epsilon,
    learning_rate,
    library,
)


class AdanConfig(OptimizerConfig):
    """Settings of Adan."""

    name: Literal["adan"] = "adan"
    lr: float = learning_rate(5e-4, 5e-5, 5e-3)
    weight_decay: float = decoupled_decay(0.02)
    betas: tuple[Beta, Beta, Beta] = setting(
        (0.98, 0.92, 0.99), help="memory of the gradient, of its changes, and of the square of both"
    )
    eps: float = epsilon(1e-8)


def make_adan(groups: Groups, betas: tuple[float, float, float], eps: float) -> Optimizer:
    """Return Adan over groups that carry ``params``, ``lr`` and ``weight_decay``.

    Args:
        groups: parameter groups; further keys are kept.
        betas: β1, β2 and β3 in [0, 1).
        eps: ε above 0.

    Raises:
        ConfigError: the package ``pytorch_optimizer`` is missing.

    The first step is the learning rate, and the decay divides the weight:

    >>> import torch
    >>> w = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    >>> w.grad = torch.tensor([0.3, -40.0])
    >>> make_adan([{"params": [w], "lr": 0.1, "weight_decay": 2.5}], (0.98, 0.92, 0.99), 1e-8).step()
    >>> w.data
    tensor([ 0.7200, -1.5200])
    """

    def part(groups: Groups) -> Optimizer:
        made: Optimizer = library("adan").Adan(
            groups, betas=betas, eps=eps, weight_decouple=False, max_grad_norm=0.0
        )
        return made

    return Assembly(groups, [Part(part)], counters=("step",))


class Adan(LibraryOptimizerTechnique[AdanConfig]):
    """Updates the weights by Adan."""

    Config = AdanConfig
    facts = Facts(family="optimizers", phase=OPTIMIZER, paper="Xie et al. 2022, arXiv 2208.06677")

    def make(self, groups: Groups) -> Optimizer:
        return make_adan(groups, self.config.betas, self.config.eps)

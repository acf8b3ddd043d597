"""LAMB: Adam's step, scaled in every layer to the size of the layer's weights.

Idea: with very large batches and learning rates some layers are moved by a multiple of themselves and
diverge; LAMB gives each tensor a step in proportion to its own norm.

Formula, for each tensor W with gradient G, learning rate η and decay λ:

* M = β1 M + (1 - β1) G;  V = β2 V + (1 - β2) G²;  U = M / (sqrt(V) + ε) + λ W
* W' = W - η min(||W||, 10) / (||U|| + ε) U, where the factor is 1 if a norm is zero

Paper: You et al. 2020 (1904.00962), algorithm 2; φ(z) = min(z, 10).

When it helps: batches of a thousand rows and more.
When not: ordinary fine-tuning; there AdamW is the simpler choice.

Suggested values: lr 1e-3 to 1e-2, grown with the root of the batch size, with a warm-up; decay 0.01.

Cost: 1 pass; two numbers for each weight.

Clashes: another optimizer.

NOTE[DIFF]: no correction for the start of the averages, as in the paper's third version, whose place the
trust ratio takes; a tensor that is zero at first, such as a fresh bias, has no ratio, and its first
step is (1 - β1) / sqrt(1 - β2) times the learning rate.
"""

from __future__ import annotations

from typing import Literal

from torch.optim import Optimizer

from etude.core.phases import OPTIMIZER
from etude.core.technique import Facts
from etude.techniques._optimizer_base import (
    AdamLikeConfig,
    Assembly,
    Groups,
    LibraryOptimizerTechnique,
    Part,
    epsilon,
    learning_rate,
    library,
)


class LambConfig(AdamLikeConfig):
    """Settings of LAMB."""

    name: Literal["lamb"] = "lamb"
    lr: float = learning_rate(1e-3, 1e-4, 2e-2)
    eps: float = epsilon(1e-6)


def make_lamb(groups: Groups, betas: tuple[float, float], eps: float) -> Optimizer:
    """Return LAMB over groups that carry ``params``, ``lr`` and ``weight_decay``.

    Args:
        groups: parameter groups; further keys are kept.
        betas: β1 and β2 in [0, 1).
        eps: ε above 0.

    Raises:
        ConfigError: the package ``pytorch_optimizer`` is missing.

    A step's norm is the learning rate times the norm of the tensor, here 0.1 of 5:

    >>> import torch
    >>> w = torch.nn.Parameter(torch.tensor([3.0, -4.0]))
    >>> w.grad = torch.tensor([0.7, 0.7])
    >>> make_lamb([{"params": [w], "lr": 0.1, "weight_decay": 0.0}], (0.9, 0.999), 1e-8).step()
    >>> round((w.data - torch.tensor([3.0, -4.0])).norm().item(), 4)
    0.5
    """

    def part(groups: Groups) -> Optimizer:
        # The library's decoupled decay stands outside of the trust ratio, where the paper has it inside,
        # and without adam_debias its first steps are 1 / (1 - β1) times as long as they should be.
        made: Optimizer = library("lamb").Lamb(
            groups, betas=betas, eps=eps, weight_decouple=False, adam_debias=True
        )
        return made

    return Assembly(groups, [Part(part)])


class Lamb(LibraryOptimizerTechnique[LambConfig]):
    """Updates the weights by LAMB."""

    Config = LambConfig
    facts = Facts(family="optimizers", phase=OPTIMIZER, paper="You et al. 2020, arXiv 1904.00962")

    def make(self, groups: Groups) -> Optimizer:
        return make_lamb(groups, self.config.betas, self.config.eps)

"""Adafactor: Adam's division by a root, remembered by row and column only.

Idea: the averaged squared gradients of a matrix are nearly the product of a column and a row, so that
n + m numbers stand for n m; steps are relative to the size of the weights, and large ones are cut.

Formula, for a matrix W (n, m) with gradient G at step t, learning rate η and decay λ:

* b_t = t^(-c);  R = (1 - b_t) R + b_t mean of G² over columns;  C = the same over rows
* V = R C / mean(R);  U = G / sqrt(max(V, ε1²));  U' = U / max(1, RMS(U) / d)
* W' = (1 - η λ) W - min(η, 1 / sqrt(t)) max(ε2, RMS(W)) U'

A vector keeps its averages whole.

Paper: Shazeer and Stern 2018 (1804.04235), algorithms 4 and 5.

When it helps: memory is short: AdamW's averages take twice what the weights take, these next to nothing.
When not: anything small; a head that starts at zero, whose relative steps are tiny at first (ε2).

Suggested values: lr is relative to the weights: 1e-3 to fine-tune, 1e-2 from scratch (the paper's).

Cost: 1 pass; n + m numbers for a matrix of n times m weights, one for each other weight.

Clashes: another optimizer.

NOTE[DIFF]: no momentum, as in the paper's main variant. The paper adds 1e-30 to G²; torch bounds the
root from below by ε1 and, by the same number, the mean of R, so that its own default of 1e-7 distorts
gradients below 3e-4. ε1 is 1e-12 here.
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
    decoupled_decay,
    learning_rate,
)


class AdafactorConfig(OptimizerConfig):
    """Settings of Adafactor."""

    name: Literal["adafactor"] = "adafactor"
    lr: float = learning_rate(1e-3, 1e-4, 3e-2)
    weight_decay: float = decoupled_decay(0.0)
    decay_exponent: float = setting(
        0.8,
        help="c: the averages forget by 1 - t^-c",
        gt=0.0,
        le=1.0,
        search=SearchRange(0.5, 1.0),
    )
    clip: float = setting(
        1.0, help="d: root mean square above which a step is cut", ge=1.0, search=SearchRange(1.0, 4.0, "log")
    )
    eps: float = setting(1e-12, help="ε1: lower bound of the root", gt=0.0, le=1e-3)
    smallest_scale: float = setting(
        1e-3,
        help="ε2: size that weights are taken to have at least",
        gt=0.0,
        search=SearchRange(1e-4, 1e-2, "log"),
    )


def make_adafactor(
    groups: Groups, decay_exponent: float, clip: float, eps: float, smallest_scale: float
) -> torch.optim.Adafactor:
    """Return torch's Adafactor over groups that carry ``params``, ``lr`` and ``weight_decay``.

    Args:
        groups: parameter groups; further keys are kept.
        decay_exponent: c above 0.
        clip: d, at least 1.
        eps: ε1 above 0.
        smallest_scale: ε2 above 0.

    Raises:
        ValueError: a value is out of its bounds.

    Weights of size 2 and 20 move by the same share of themselves:

    >>> small, large = (torch.nn.Parameter(torch.full((2, 2), size)) for size in (2.0, 20.0))
    >>> small.grad, large.grad = torch.full((2, 2), 5.0), torch.full((2, 2), 0.01)
    >>> make_adafactor([{"params": [small, large], "lr": 0.1, "weight_decay": 0.0}],
    ...                0.8, 1.0, 1e-12, 1e-3).step()
    >>> small[0, 0].item(), large[0, 0].item()
    (1.7999999523162842, 18.0)
    """
    return torch.optim.Adafactor(groups, beta2_decay=-decay_exponent, d=clip, eps=(eps, smallest_scale))


class Adafactor(OptimizerTechnique[AdafactorConfig]):
    """Updates the weights by Adafactor."""

    Config = AdafactorConfig
    facts = Facts(family="optimizers", phase=OPTIMIZER, paper="Shazeer and Stern 2018, arXiv 1804.04235")

    def make(self, groups: Groups) -> torch.optim.Adafactor:
        config = self.config
        return make_adafactor(groups, config.decay_exponent, config.clip, config.eps, config.smallest_scale)

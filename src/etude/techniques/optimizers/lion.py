"""Lion: every weight steps by the learning rate, along the sign of an averaged gradient.

Idea: found by a search over programs: of the gradient only the sign of its average is used, so that all
weights move equally far and one number for each weight is enough memory.

Formula, for every weight w with gradient g, learning rate η and decay λ:

* u = sign(β1 m + (1 - β1) g);  w' = (1 - η λ) w - η u
* m = β2 m + (1 - β2) g

Paper: Chen et al. 2023 (2302.06675), program 1.

When it helps: large batches and large models; half of AdamW's memory.
When not: batches below about 64, where the sign of a noisy gradient is little better than a coin's.

Suggested values: lr 3 to 10 times smaller than AdamW's and weight decay 3 to 10 times larger (section 5
of the paper), so that their product stays; 1e-5 to 1e-4, and 0.1.

Cost: 1 pass; one number for each weight.

Clashes: another optimizer.

NOTE[DIFF]: not split-invariant: a gradient that is zero but for rounding, as of the keys' bias in
attention, has a sign that differs between one large batch and its micro-batches.
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
    learning_rate,
    library,
)


class LionConfig(OptimizerConfig):
    """Settings of Lion."""

    name: Literal["lion"] = "lion"
    lr: float = learning_rate(3e-5, 3e-6, 3e-4)
    weight_decay: float = decoupled_decay(0.1, 1e-2, 3.0)
    betas: tuple[Beta, Beta] = setting((0.9, 0.99), help="share of the memory in a step, and its own memory")


def make_lion(groups: Groups, betas: tuple[float, float]) -> Optimizer:
    """Return Lion over groups that carry ``params``, ``lr`` and ``weight_decay``.

    Args:
        groups: parameter groups; further keys are kept.
        betas: β1 and β2 in [0, 1).

    Raises:
        ConfigError: the package ``pytorch_optimizer`` is missing.

    >>> import torch
    >>> w = torch.nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))
    >>> w.grad = torch.tensor([0.001, -40.0, 0.0])
    >>> make_lion([{"params": [w], "lr": 0.1, "weight_decay": 0.0}], (0.9, 0.99)).step()
    >>> w.data
    tensor([ 0.9000, -1.9000,  3.0000])
    """

    def part(groups: Groups) -> Optimizer:
        made: Optimizer = library("lion").Lion(groups, betas=betas)
        return made

    return Assembly(groups, [Part(part, ("lr", "weight_decay", "betas"))])


class Lion(LibraryOptimizerTechnique[LionConfig]):
    """Updates the weights by Lion."""

    Config = LionConfig
    facts = Facts(
        family="optimizers",
        phase=OPTIMIZER,
        paper="Chen et al. 2023, arXiv 2302.06675",
        split_invariant=False,
    )

    def make(self, groups: Groups) -> Optimizer:
        return make_lion(groups, self.config.betas)

"""Ranger: RAdam's steps, drawn back every few steps towards slow weights.

Idea: RAdam needs no warm-up, and Lookahead keeps a second set of weights that follows the first half
way every k steps, which calms what one set alone would do.

Formula, for every weight w with RAdam's step u (see ``radam``), slow weight s, share α, decay λ:

* w' = (1 - η λ) w - η u, and after every k-th step: s' = s + α (w' - s);  w' = s'
* for the first five steps, in which RAdam is not sure of its scale, u = m / (1 - β1^t) is plain momentum

Paper: Wright 2019 (github.com/lessw2020/Ranger-Deep-Learning-Optimizer); RAdam: Liu et al. 2020
(1908.03265); Lookahead: Zhang et al. 2019 (1907.08610), algorithm 1.

When it helps: from scratch, with a learning rate that is flat and then falls along a cosine; it
forgives a rate that is too large.
When not: short runs, which end before the slow weights have followed.

Suggested values: lr 1e-4 to fine-tune, 1e-3 and more from scratch; k 6, share 0.5, betas (0.95, 0.999).

Cost: 1 pass; three numbers for each weight.

Clashes: another optimizer.

NOTE[DIFF]: centralised gradients (Yong et al. 2020, 2004.01461), which later versions of Ranger have, are
a setting and off. What is saved are the fast weights of the last step; let the run's steps be a
multiple of k to save the slow ones.
"""

from __future__ import annotations

from typing import Literal

from torch.optim import Optimizer

from etude.config.fields import Probability, SearchRange, setting
from etude.core.phases import OPTIMIZER
from etude.core.technique import Facts
from etude.techniques._optimizer_base import (
    AdamLikeConfig,
    Assembly,
    Beta,
    Groups,
    LibraryOptimizerTechnique,
    Part,
    epsilon,
    library,
    two_betas,
)


class RangerConfig(AdamLikeConfig):
    """Settings of Ranger."""

    name: Literal["ranger"] = "ranger"
    betas: tuple[Beta, Beta] = two_betas(0.95, 0.999)
    eps: float = epsilon(1e-5)
    k: int = setting(6, help="steps from one draw back to the next", ge=1, search=SearchRange(3, 12))
    alpha: Probability = setting(
        0.5, help="share of the way that the slow weights follow", search=SearchRange(0.3, 0.8)
    )
    centralise: bool = setting(False, help="take the mean out of the gradient of each unit's weights")


def make_ranger(
    groups: Groups,
    betas: tuple[float, float],
    eps: float,
    k: int,
    alpha: float,
    *,
    centralise: bool = False,
) -> Optimizer:
    """Return Ranger over groups that carry ``params``, ``lr`` and ``weight_decay``.

    Args:
        groups: parameter groups; further keys are kept.
        betas: β1 and β2 in [0, 1).
        eps: ε above 0.
        k: steps between two draws back, at least 1.
        alpha: α in [0, 1].
        centralise: whether gradients are centralised.

    Raises:
        ConfigError: the package ``pytorch_optimizer`` is missing.

    With k = 1 and α = 0.5 every step is half a step of RAdam:

    >>> import torch
    >>> w = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    >>> w.grad = torch.tensor([0.5, -4.0])
    >>> groups = [{"params": [w], "lr": 0.1, "weight_decay": 0.0}]
    >>> make_ranger(groups, (0.95, 0.999), 1e-5, k=1, alpha=0.5).step()
    >>> w.data
    tensor([ 0.9750, -1.8000])
    """

    def part(groups: Groups) -> Optimizer:
        # Without degenerated_to_sgd the library's first steps would go up the gradient.
        made: Optimizer = library("ranger").Ranger(
            groups, betas=betas, eps=eps, k=k, alpha=alpha, use_gc=centralise, degenerated_to_sgd=True
        )
        return made

    return Assembly(groups, [Part(part)], counters=("step",))


class Ranger(LibraryOptimizerTechnique[RangerConfig]):
    """Updates the weights by Ranger."""

    Config = RangerConfig
    facts = Facts(
        family="optimizers",
        phase=OPTIMIZER,
        paper="Wright 2019; Zhang et al. 2019, arXiv 1907.08610; Liu et al. 2020, arXiv 1908.03265",
    )

    def make(self, groups: Groups) -> Optimizer:
        config = self.config
        return make_ranger(
            groups, config.betas, config.eps, config.k, config.alpha, centralise=config.centralise
        )

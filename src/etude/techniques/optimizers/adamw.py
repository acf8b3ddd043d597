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

from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch.optim import Optimizer

from etude.config.fields import SearchRange, setting
from etude.core.phases import OPTIMIZER, OptimizerSpec
from etude.core.plan import Plan
from etude.core.technique import Facts, Technique, TechniqueConfig
from etude.techniques.optimizers import can_fuse

Beta = Annotated[float, Field(ge=0.0, lt=1.0)]


class AdamWConfig(TechniqueConfig):
    """Settings of AdamW."""

    name: Literal["adamw"] = "adamw"
    lr: float = setting(1e-4, help="peak learning rate", gt=0.0, search=SearchRange(1e-5, 1e-3, "log"))
    weight_decay: float = setting(
        0.01,
        help="share of a weight that a step at rate 1 would take away",
        ge=0.0,
        search=SearchRange(1e-3, 0.3, "log"),
    )
    betas: tuple[Beta, Beta] = setting((0.9, 0.999), help="memory of the gradient and of its square")
    eps: float = setting(
        1e-8, help="added to the root of the squares", gt=0.0, search=SearchRange(1e-9, 1e-5, "log")
    )


def make_adamw(groups: list[dict[str, Any]], betas: tuple[float, float], eps: float) -> torch.optim.AdamW:
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


class AdamW(Technique[AdamWConfig]):
    """Updates the weights by AdamW."""

    Config = AdamWConfig
    facts = Facts(family="optimizers", phase=OPTIMIZER, paper="Loshchilov and Hutter 2019, arXiv 1711.05101")

    def attach(self, plan: Plan) -> None:
        config = self.config

        def make(groups: list[dict[str, Any]]) -> Optimizer:
            return make_adamw(groups, config.betas, config.eps)

        plan.add(OPTIMIZER, OptimizerSpec(config.lr, config.weight_decay, make))

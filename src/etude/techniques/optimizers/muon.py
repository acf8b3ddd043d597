"""Muon: momentum, with every hidden matrix's step made orthogonal.

Idea: the gradient of a matrix is mostly a few strong directions; Muon gives all of its directions the
same length, so that rare ones are learned as fast. Everything that is no hidden matrix is left to AdamW.

Formula, for a hidden matrix W (n, m) with gradient G, learning rate η, momentum μ and decay λ:

* B = μ B + (1 - μ) G;  D = μ B + (1 - μ) G with Nesterov's look-ahead, else B
* O = Newton-Schulz(D): X = D / ||D||, then 5 times X' = 3.4445 X - 4.7750 X X^T X + 2.0315 (X X^T)² X
* W' = (1 - η λ) W - 0.2 sqrt(max(n, m)) η O

Paper: Jordan et al. 2024 (kellerjordan.github.io/posts/muon); the factor 0.2 sqrt(max(n, m)), which gives
steps AdamW's size: Liu et al. 2025 (2502.16982), section 2.2.

When it helps: transformers from scratch, or fine-tuned where Muon has trained them.
When not: short fine-tuning of models that Adam has trained, where it often gains nothing.

Suggested values: lr and weight decay as for AdamW, since steps have the same size; momentum 0.95.

Cost: 1 pass; one number for each weight of a hidden matrix and two for each other; 15 matrix products a
step, little on a GPU, and on two CPU cores more than a second for the 10.6 M hidden weights of MiniLM.

Clashes: another optimizer.

NOTE[DIFF]: hidden are the matrices between the first block and the head; convolutions' kernels, which
the post flattens, are AdamW's. The iteration runs in bfloat16, as in torch. One learning rate
serves both optimizers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from etude.config.fields import SearchRange, setting
from etude.core.phases import GROUPS, OPTIMIZER, Parameter
from etude.core.plan import Plan
from etude.core.technique import Facts
from etude.errors import ConfigError, ConflictError
from etude.techniques._optimizer_base import (
    AdamLikeConfig,
    Assembly,
    Groups,
    Noted,
    OptimizerTechnique,
    Part,
    can_fuse,
    decoupled_decay,
)


class MuonConfig(AdamLikeConfig):
    """Settings of Muon, and of the AdamW beside it."""

    name: Literal["muon"] = "muon"
    weight_decay: float = decoupled_decay(0.1)
    momentum: float = setting(
        0.95, help="share of the velocity that is kept", ge=0.0, lt=1.0, search=SearchRange(0.9, 0.98)
    )
    nesterov: bool = setting(True, help="look ahead along the velocity")
    n_iterations: int = setting(5, help="iterations of Newton and Schulz", ge=1, le=20)


def is_hidden(parameter: Parameter) -> bool:
    """Whether a parameter is a matrix between the first block and the head.

    >>> weight = torch.nn.Parameter(torch.zeros(2, 2))
    >>> [is_hidden(Parameter("w", weight, block, 3, False, False)) for block in (0, 1, 2)]
    [False, True, False]
    """
    inside = parameter.block > 0 and not parameter.in_head and not parameter.in_embedding
    return inside and parameter.value.dim() == 2


def make_muon(
    groups: Groups,
    hidden: Callable[[Tensor], bool],
    momentum: float,
    betas: tuple[float, float],
    eps: float,
    *,
    nesterov: bool = True,
    n_iterations: int = 5,
) -> Optimizer:
    """Return one optimizer of torch's Muon, for hidden matrices, and torch's AdamW, for the others.

    Args:
        groups: parameter groups with ``params``, ``lr`` and ``weight_decay``; further keys are kept.
        hidden: whether Muon takes a parameter, which must have two dimensions.
        momentum: μ in [0, 1).
        betas: AdamW's β1 and β2 in [0, 1).
        eps: AdamW's ε above 0.
        nesterov: whether to look ahead.
        n_iterations: iterations of Newton and Schulz.

    Raises:
        ConfigError: this torch has no Muon.

    A step's singular values lie between 0.7 and 1.2, times ``0.2 * sqrt(2) * lr``, however unequal they are
    in the gradient:

    >>> w = torch.nn.Parameter(torch.zeros(2, 2))
    >>> w.grad = torch.tensor([[100.0, 0.0], [0.0, 1.0]])
    >>> groups = [{"params": [w], "lr": 1.0, "weight_decay": 0.0}]
    >>> make_muon(groups, lambda value: True, 0.95, (0.9, 0.999), 1e-8).step()
    >>> [round(size, 1) for size in (-w.data.diagonal() / (0.2 * 2 ** 0.5)).tolist()]
    [0.7, 0.7]
    """

    def muon(groups: Groups) -> Optimizer:
        if not hasattr(torch.optim, "Muon"):
            raise ConfigError(
                f"muon needs torch 2.9 or newer and this is {torch.__version__}; update torch or use adamw"
            )
        return torch.optim.Muon(
            groups, momentum=momentum, nesterov=nesterov, ns_steps=n_iterations,
            adjust_lr_fn="match_rms_adamw",
        )  # fmt: skip

    def adamw(groups: Groups) -> Optimizer:
        return torch.optim.AdamW(groups, betas=betas, eps=eps, fused=can_fuse(groups))

    parts = [Part(muon, ("lr", "weight_decay", "momentum"), hidden), Part(adamw)]
    return Assembly(groups, parts)


class Muon(OptimizerTechnique[MuonConfig]):
    """Updates hidden matrices by Muon, and everything else by AdamW."""

    Config = MuonConfig
    facts = Facts(
        family="optimizers",
        phase=OPTIMIZER,
        paper="Jordan et al. 2024, kellerjordan.github.io/posts/muon; Liu et al. 2025, arXiv 2502.16982",
    )

    def attach(self, plan: Plan) -> None:
        self._hidden = Noted(is_hidden)
        plan.add(GROUPS, self._hidden.rule)
        super().attach(plan)

    def make(self, groups: Groups) -> Optimizer:
        config = self.config
        if not any(value in self._hidden for group in groups for value in group["params"]):
            raise ConflictError(
                "muon needs a matrix between the first block and the head, and this model has none; use adamw"
            )
        return make_muon(
            groups, self._hidden.__contains__, config.momentum, config.betas, config.eps,
            nesterov=config.nesterov, n_iterations=config.n_iterations,
        )  # fmt: skip

"""Prodigy: AdamW that finds its learning rate.

Idea: the right step is proportional to the distance from the start to the solution; that distance has a
lower bound which only needs the gradients seen so far, and which grows until the steps are right.

Formula, for all weights w from the start w0, with gradient g, estimate d and rate γ (1, times schedule):

* r = sqrt(β2) r + γ d² <g, w0 - w>;  s = sqrt(β2) s + γ d² g
* m = β1 m + (1 - β1) d g;  v = β2 v + (1 - β2) d² g²
* w' = (1 - γ d λ) w - γ d m / (sqrt(v) + d ε);  d' = max(d, c r / ||s||_1)

Paper: Mishchenko and Defazio 2024 (2306.06101), algorithm 4.

When it helps: no time to tune the learning rate, on new data or models; together with a cosine.
When not: short runs, whose first steps go into finding d; a learning rate that is known.

Suggested values: lr 1, and c (``d_coef``) 0.5 to 2 instead of another lr; with a warm-up, set
``safeguard_warmup``; weight decay 0.01.

Cost: 1 pass; four numbers for each weight, and one number that the host waits for.

Clashes: another optimizer.

NOTE[DIFF]: as in the authors' code, r and s are without the factor 1 - sqrt(β2), which cancels.
Groups may have rates of their own, which scale γ for their weights in every formula; the authors'
code and its copies allow one rate only, which is why it is written here.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from etude.config.fields import SearchRange, setting
from etude.core.phases import OPTIMIZER
from etude.core.technique import Facts
from etude.techniques._optimizer_base import (
    MEMORY,
    AdamLikeConfig,
    Groups,
    OptimizerTechnique,
    learning_rate,
)


class ProdigyConfig(AdamLikeConfig):
    """Settings of Prodigy."""

    name: Literal["prodigy"] = "prodigy"
    lr: float = learning_rate(1.0, 0.1, 10.0)
    d0: float = setting(
        1e-6, help="first estimate of the distance", gt=0.0, search=SearchRange(1e-7, 1e-5, "log")
    )
    d_coef: float = setting(1.0, help="factor of the estimate", gt=0.0, search=SearchRange(0.5, 2.0, "log"))
    safeguard_warmup: bool = setting(False, help="keep the small rates of a warm-up out of ||s||")


class ProdigyOptimizer(Optimizer):
    """Prodigy for torch; see the module for the formula.

    Args:
        groups: parameter groups that carry ``params``, ``lr`` and ``weight_decay``; further keys are kept.
        betas: β1 and β2 in [0, 1).
        eps: ε above 0.
        d0: the first estimate of the distance.
        d_coef: factor c of the estimate.
        safeguard_warmup: whether s is taken with γ = 1.
    """

    def __init__(
        self,
        groups: Groups,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        d0: float = 1e-6,
        d_coef: float = 1.0,
        *,
        safeguard_warmup: bool = False,
    ) -> None:
        self._d0, self._d_coef, self._safeguard = d0, d_coef, safeguard_warmup
        super().__init__(groups, {"betas": betas, "eps": eps})

    @property
    def distance(self) -> float:
        """The estimate d, which the learning rate is multiplied by."""
        return float(self._memory()["d"])

    def _memory(self) -> dict[str, float]:
        # Under a key that is no parameter: the estimate belongs to all of them, and to the checkpoint.
        state: dict[Any, Any] = self.state
        memory: dict[str, float] = state.get(MEMORY, {"d": self._d0, "r": 0.0})
        return memory

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # the closure is given back by nobody
        """Update all weights that have a gradient, and the estimate."""
        memory = self._memory()
        d, r = memory["d"], memory["r"] * math.sqrt(self.param_groups[0]["betas"][1])
        parts = []
        for group in self.param_groups:
            for value in group["params"]:
                if value.grad is not None:
                    parts.append(self._look(value, group, d))
                    self._move(value, group, d)
        if not parts:
            return
        # Tensors until here, so that the host waits once.
        inner, norm = torch.stack(parts).sum(dim=0).tolist()
        r += inner
        if norm > 0.0:
            d = max(d, self._d_coef * r / norm)
        state: dict[Any, Any] = self.state
        state[MEMORY] = {"d": d, "r": r}

    def _look(self, value: Tensor, group: dict[str, Any], d: float) -> Tensor:
        """Take the gradient into the averages; return its parts (2,) of r and of ||s||, both over d0."""
        grad: Any = value.grad
        state, (beta1, beta2) = self.state[value], group["betas"]
        if not state:
            state["start"] = value.clone()
            for name in ("s", "exp_avg", "exp_avg_sq"):
                state[name] = torch.zeros_like(value)
        # Divided by d0, which cancels, so that d² does not leave the range of float32.
        rate = d / self._d0 * d * group["lr"]
        product = rate * torch.sum(grad * (state["start"] - value))
        share = d / self._d0 * d if self._safeguard else rate
        state["s"].mul_(math.sqrt(beta2)).add_(grad, alpha=share)
        state["exp_avg"].mul_(beta1).add_(grad, alpha=d * (1 - beta1))
        state["exp_avg_sq"].mul_(beta2).addcmul_(grad, grad, value=d * d * (1 - beta2))
        return torch.stack([product, state["s"].abs().sum(dtype=torch.float64)])

    def _move(self, value: Tensor, group: dict[str, Any], d: float) -> None:
        state, rate = self.state[value], d * group["lr"]
        value.mul_(1 - rate * group["weight_decay"])
        root = state["exp_avg_sq"].sqrt().add_(d * group["eps"])
        value.addcdiv_(state["exp_avg"], root, value=-rate)


def make_prodigy(
    groups: Groups,
    betas: tuple[float, float],
    eps: float,
    d0: float,
    d_coef: float,
    *,
    safeguard_warmup: bool = False,
) -> ProdigyOptimizer:
    """Return Prodigy; the arguments are those of :class:`ProdigyOptimizer`.

    From 1 down to the minimum of |w| at 0: the estimate grows from a millionth to about the distance.

    >>> w = torch.nn.Parameter(torch.tensor([1.0]))
    >>> groups = [{"params": [w], "lr": 1.0, "weight_decay": 0.0}]
    >>> optimizer = make_prodigy(groups, (0.9, 0.99), 1e-8, d0=1e-6, d_coef=1.0)
    >>> for _ in range(100):
    ...     w.grad = w.detach().sign()
    ...     optimizer.step()
    >>> 0.05 < optimizer.distance < 1
    True
    """
    return ProdigyOptimizer(groups, betas, eps, d0, d_coef, safeguard_warmup=safeguard_warmup)


class Prodigy(OptimizerTechnique[ProdigyConfig]):
    """Updates the weights by Prodigy."""

    Config = ProdigyConfig
    facts = Facts(family="optimizers", phase=OPTIMIZER, paper="Mishchenko and Defazio 2024, arXiv 2306.06101")

    def make(self, groups: Groups) -> Optimizer:
        config = self.config
        return make_prodigy(
            groups, config.betas, config.eps, config.d0, config.d_coef,
            safeguard_warmup=config.safeguard_warmup,
        )  # fmt: skip

"""AdamW in 8 bits: AdamW whose two averages take a quarter of the memory.

Idea: the averages of gradients need little precision if every block of 256 numbers has a scale of its
own, and if the 256 values of a byte lie close together near zero.

Formula: AdamW's (see ``adamw``); after each step m and v are rounded, in blocks b of 256 numbers,

* m = A_b code(i), where A_b is the block's largest absolute value and i the byte of the nearest code;
  codes lie in [-1, 1] for m and in [0, 1] for v, spaced like floating-point numbers

Paper: Dettmers et al. 2022 (2110.02861), sections 2 and 3.

When it helps: models whose optimizer does not fit: 2 bytes for each weight instead of 8.
When not: small models, and on a CPU, where rounding costs more time than it saves.

Suggested values: those of AdamW: lr 1e-5 to 2e-4, weight decay 0.01.

Cost: 1 pass; two bytes for each weight of a large matrix, and two numbers for each other weight.

Clashes: another optimizer.

NOTE[DIFF]: embeddings keep averages in 32 bits, as in section 3 of the paper, without its stable
embedding layer; so do tensors below ``min_size`` numbers, and weights in float64.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from etude.config.fields import setting
from etude.core.phases import GROUPS, OPTIMIZER, Parameter
from etude.core.plan import Plan
from etude.core.technique import Facts
from etude.extras import require
from etude.techniques._optimizer_base import (
    AdamLikeConfig,
    Assembly,
    Groups,
    Noted,
    OptimizerTechnique,
    Part,
    can_fuse,
)


class AdamW8bitConfig(AdamLikeConfig):
    """Settings of AdamW in 8 bits."""

    name: Literal["adamw_8bit"] = "adamw_8bit"
    min_size: int = setting(4096, help="tensors of fewer numbers keep averages in 32 bits", ge=1)


def make_adamw_8bit(
    groups: Groups, small: Callable[[Tensor], bool], betas: tuple[float, float], eps: float
) -> Optimizer:
    """Return one optimizer of bitsandbytes' 8-bit AdamW and, for small tensors, torch's AdamW.

    Args:
        groups: parameter groups with ``params``, ``lr`` and ``weight_decay``; further keys are kept.
        small: whether a parameter keeps its averages in 32 bits.
        betas: β1 and β2 in [0, 1).
        eps: ε above 0.

    Raises:
        ConfigError: the package ``bitsandbytes`` is missing.

    Two averages of 4,096 numbers, in bytes:

    >>> w = torch.nn.Parameter(torch.ones(4096))
    >>> w.grad = torch.ones(4096)
    >>> groups = [{"params": [w], "lr": 0.1, "weight_decay": 0.0}]
    >>> optimizer = make_adamw_8bit(groups, lambda value: False, (0.9, 0.999), 1e-8)
    >>> optimizer.step()
    >>> kept = [optimizer.state[w][name] for name in ("state1", "state2")]
    >>> round(w[0].item(), 4), sum(average.numel() * average.element_size() for average in kept)
    (0.9, 8192)
    """

    def quantised(groups: Groups) -> Optimizer:
        made: Optimizer = _bitsandbytes().optim.AdamW8bit(groups, betas=betas, eps=eps, min_8bit_size=1)
        return made

    def whole(groups: Groups) -> Optimizer:
        return torch.optim.AdamW(groups, betas=betas, eps=eps, fused=can_fuse(groups))

    return Assembly(groups, [Part(whole, takes=small), Part(quantised)])


def _bitsandbytes() -> Any:
    # On a CPU it warns that a faster 4-bit product is missing, which no optimizer needs.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    return require("bitsandbytes", extra="quantised", technique="adamw_8bit")


class AdamW8bit(OptimizerTechnique[AdamW8bitConfig]):
    """Updates the weights by AdamW, with the averages of large matrices in bytes."""

    Config = AdamW8bitConfig
    facts = Facts(
        family="optimizers",
        phase=OPTIMIZER,
        paper="Dettmers et al. 2022, arXiv 2110.02861",
        example={"min_size": 16},
    )

    def attach(self, plan: Plan) -> None:
        _bitsandbytes()
        self._embeddings = Noted(_in_embedding)
        plan.add(GROUPS, self._embeddings.rule)
        super().attach(plan)

    def make(self, groups: Groups) -> Optimizer:
        return make_adamw_8bit(groups, self._small, self.config.betas, self.config.eps)

    def _small(self, value: Tensor) -> bool:
        exact = value.dtype == torch.float64 or value in self._embeddings
        return exact or value.numel() < self.config.min_size


def _in_embedding(parameter: Parameter) -> bool:
    return parameter.in_embedding

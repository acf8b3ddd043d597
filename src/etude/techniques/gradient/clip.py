"""Gradient clipping: no step is longer than a bound allows.

Idea: now and then a batch has a huge gradient, and one such step can undo many. Scaling it down keeps
its direction and takes away its force.

Formula, with the norm n = ||(g_1, ..., g_P)|| of all gradients together and the bound m:
g' = g · min(1, m / (n + 1e-6)).

Paper: Pascanu et al. 2013 (1211.5063), section 3.2.

When it helps: transformers and recurrent networks; high learning rates; training that diverges.
When not: where the norm is above the bound at every step, clipping only rescales the learning rate.

Suggested values: 1.0; look at the logged norm and set the bound to what most steps stay under.

Cost: 1 pass; no memory.

Clashes: none; it acts after every other technique on gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from etude.config.fields import SearchRange, setting
from etude.core.phases import GRADIENT
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Facts, Technique, TechniqueConfig

CLIP_RANK = 100
"""Clipping is last: what acts before it may make gradients longer."""


class ClipConfig(TechniqueConfig):
    """Settings of gradient clipping."""

    name: Literal["clip"] = "clip"
    max_norm: float = setting(
        1.0, help="longest gradient of a step", gt=0.0, search=SearchRange(0.1, 10.0, "log")
    )


def clip_gradients(params: Sequence[nn.Parameter], max_norm: float) -> Tensor:
    """Scale the gradients of all parameters together, in place, and return their norm before.

    The host does not wait for the device: the norm stays a tensor.

    Args:
        params: parameters; those without a gradient are passed over.
        max_norm: longest norm, above 0.

    Raises:
        ValueError: ``max_norm`` is not above 0.

    >>> w = nn.Parameter(torch.zeros(2))
    >>> w.grad = torch.tensor([3.0, 4.0])
    >>> clip_gradients([w], 1.0), w.grad
    (tensor(5.), tensor([0.6000, 0.8000]))
    """
    if not max_norm > 0.0:
        raise ValueError(f"max_norm is {max_norm} and must be above 0")
    norm = total_norm([value.grad for value in params if value.grad is not None])
    # On a processor it costs nothing to look, and a factor of one need not be multiplied.
    if norm.device.type != "cpu" or not bool(norm + 1e-6 <= max_norm):
        clip_grads_with_norm_(params, max_norm, norm)
    return norm


def total_norm(grads: Sequence[Tensor]) -> Tensor:
    """Return the norm of all gradients together.

    On a processor it is the root of dot products, which use every thread; torch's own norm
    of MiniLM's gradients took three times as long.

    >>> total_norm([torch.tensor([[3.0]]), torch.tensor([4.0])])
    tensor(5.)
    """
    if not grads or not all(
        grad.device.type == "cpu" and grad.is_contiguous() and grad.dtype == torch.float32 for grad in grads
    ):
        return get_total_norm(grads)
    flat = [grad.view(-1) for grad in grads]
    return torch.stack([torch.dot(grad, grad) for grad in flat]).sum().sqrt()


class Clip(Technique[ClipConfig]):
    """Clips the gradient of a step."""

    Config = ClipConfig
    facts = Facts(
        family="gradient",
        phase=GRADIENT,
        paper="Pascanu et al. 2013, arXiv 1211.5063",
        neutral={"max_norm": 1e9},
    )

    def attach(self, plan: Plan) -> None:
        max_norm = self.config.max_norm

        def clip(params: Sequence[nn.Parameter], moment: Moment) -> Tensor:
            return clip_gradients(params, max_norm)

        plan.add(GRADIENT, clip, rank=CLIP_RANK)

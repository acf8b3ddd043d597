"""LookSAM: SAM at every k-th step, and what it adds to the gradient reused in between.

Idea: the part of SAM's gradient that is orthogonal to the plain one points towards flat regions, and
changes much more slowly than the plain gradient does. It is computed now and then and added, scaled,
to the plain gradients of the steps that follow.

Formula, with g = ∇L(w), SAM's gradient s = ∇L(w + ρ g / ||g||), and norms and products over all
weights together:

* at every k-th step: the step is taken with s, and v = s - (s · g / ||g||²) g is kept
* at the others: the step is taken with g + α (||g|| / ||v||) v

Paper: Liu et al. 2022 (2203.02714), algorithm 1.

When it helps: where SAM helps and its time does not suffice.
When not: very small k is SAM's own cost; very large k adds a direction that no longer holds.

Suggested values: k = 5, α = 0.7 from 0.2 to 1, ρ = 0.05 as for SAM.

Cost: 1 + 1/k passes; two copies of the weights at every k-th step, one at the others.

Clashes: precision fp16, which rescales gradients between the passes (use bf16); another technique of
the phase perturb.

NOTE[DIFF]: norms are over all weights together, as in the paper's algorithm 1; some libraries take them
for each tensor on its own. Where the weights that train change, as in gradual unfreezing, the next step
is a full one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from etude.config.fields import SearchRange, setting
from etude.core.phases import PERTURB, Gradients
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Facts, Technique, TechniqueConfig
from etude.techniques.perturb import restored, unless_broken

TINY = 1e-12
"""Keeps quotients of norms finite where a norm is zero."""


class LookSAMConfig(TechniqueConfig):
    """Settings of LookSAM."""

    name: Literal["looksam"] = "looksam"
    rho: float = setting(
        0.05, help="how far uphill the gradient is taken", ge=0.0, search=SearchRange(0.01, 0.5, "log")
    )
    k: int = setting(5, help="optimizer steps from one full step to the next", ge=1)
    alpha: float = setting(0.7, help="weight of the reused direction", ge=0.0, search=SearchRange(0.2, 1.0))


def sharpness_direction(
    gradients: Gradients, params: Sequence[nn.Parameter], rho: float
) -> tuple[Tensor, list[Tensor]]:
    """Leave SAM's gradient in ``.grad``; return the loss at ``w`` and the direction to be reused.

    Args:
        gradients: fills ``.grad`` anew and returns the loss.
        params: the weights.
        rho: ρ, 0 or more.

    Returns:
        The loss, and v for each weight that has a gradient; no v where the gradient is not finite.

    Raises:
        ValueError: ``rho`` is below 0.

    For the loss (x² + 3 y²) / 2 at (1, 1) the plain gradient is (1, 3) and SAM's, with ρ = sqrt(10),
    is (2, 12); the part of it that is orthogonal to (1, 3) is (-1.8, 0.6):

    >>> w = nn.Parameter(torch.tensor([1.0, 1.0]))
    >>> def gradients():
    ...     w.grad = torch.tensor([1.0, 3.0]) * w.detach()
    ...     return (w.detach() @ w.grad) / 2
    >>> loss, direction = sharpness_direction(gradients, [w], 10**0.5)
    >>> w.grad, direction
    (tensor([ 2., 12.]), [tensor([-1.8000,  0.6000])])
    """
    if rho < 0.0:
        raise ValueError(f"rho is {rho} and must be 0 or more")
    loss = gradients()
    graded = [(weight, weight.grad) for weight in params if weight.grad is not None]
    norm = get_total_norm([grad for _, grad in graded])
    # One wait for the device, to spare a second pass that could only spread what is not finite.
    if not bool(torch.isfinite(norm)):
        return loss + norm, []
    scale = rho / (norm + TINY)
    with restored([weight for weight, _ in graded]):
        with torch.no_grad():
            for weight, grad in graded:
                weight.addcmul_(grad, scale.to(weight))
        there = gradients()
    found = [weight.grad for weight, _ in graded if weight.grad is not None]
    product = torch.stack([(s * grad).sum() for s, (_, grad) in zip(found, graded, strict=True)]).sum()
    share = product / (norm**2 + TINY)
    return unless_broken(loss, there), [
        s - share.to(s) * grad for s, (_, grad) in zip(found, graded, strict=True)
    ]


def add_direction(grads: Sequence[Tensor], direction: Sequence[Tensor], alpha: float) -> None:
    """Add ``alpha * ||g|| / ||v|| * v`` to the gradients, in place.

    >>> grads = [torch.tensor([3.0, 4.0])]
    >>> add_direction(grads, [torch.tensor([0.0, 0.1])], 0.5)
    >>> grads
    [tensor([3.0000, 6.5000])]
    """
    scale = alpha * get_total_norm(list(grads)) / (get_total_norm(list(direction)) + TINY)
    for grad, v in zip(grads, direction, strict=True):
        grad.addcmul_(v.to(grad), scale.to(grad))


class LookSAM(Technique[LookSAMConfig]):
    """Takes a full step now and then, and keeps its direction for the steps in between."""

    Config = LookSAMConfig
    facts = Facts(
        family="perturb",
        phase=PERTURB,
        paper="Liu et al. 2022, arXiv 2203.02714",
        passes=1.2,
        two_pass=True,
        neutral={"rho": 0.0},
    )

    def __init__(self, config: LookSAMConfig) -> None:
        super().__init__(config)
        self._direction: list[Tensor] = []

    def attach(self, plan: Plan) -> None:
        if self.config.rho > 0.0:
            plan.add(PERTURB, self.perturb)

    def perturb(self, gradients: Gradients, params: Sequence[nn.Parameter], moment: Moment) -> Tensor:
        """Take the full step where it is due, else the plain one with the kept direction."""
        full = moment.step % self.config.k == 0 or [v.shape for v in self._direction] != [
            weight.shape for weight in params
        ]
        if full:
            loss, direction = sharpness_direction(gradients, params, self.config.rho)
            self._direction = _at_every(params, direction)
            return loss
        loss = gradients()
        pairs = [
            (weight.grad, v)
            for weight, v in zip(params, self._direction, strict=True)
            if weight.grad is not None
        ]
        add_direction([grad for grad, _ in pairs], [v for _, v in pairs], self.config.alpha)
        return loss

    def state_dict(self) -> dict[str, Tensor | int | float | str]:
        return {f"direction.{i}": v for i, v in enumerate(self._direction)}

    def load_state_dict(self, state: Mapping[str, Tensor | int | float | str]) -> None:
        found = [state[f"direction.{i}"] for i in range(len(state))]
        self._direction = [v.clone() for v in found if isinstance(v, Tensor)]


def _at_every(params: Sequence[nn.Parameter], direction: list[Tensor]) -> list[Tensor]:
    """One direction for each weight, zero where it has no gradient; none where the step has failed."""
    if not direction:
        return []
    rest = iter(direction)
    return [torch.zeros_like(w) if w.grad is None else next(rest) for w in params]

"""SAM: descend by the gradient at the worst point nearby.

Idea: a minimum whose surroundings are flat generalises better than a sharp one. The gradient taken
one short step uphill points away from sharp ones.

Formula, with weights w, loss L, radius ρ and all norms over all weights together:

* e = ρ g / ||g||, where g = ∇L(w)
* the step at w is taken with ∇L(w + e)

Paper: Foret et al. 2021 (2010.01412), equation 2 and algorithm 1.

When it helps: small or noisy data, long training, a gap between training and test scores.
When not: where time is short, since every step costs twice; or the model underfits.

Suggested values: ρ = 0.05, from 0.01 to 0.5.

Cost: 2 passes; one copy of the weights.

Clashes: precision fp16, which rescales gradients between the passes (use bf16); another technique of
the phase perturb.

NOTE[DIFF]: the paper's e is computed on each device from its own rows; here from the whole batch of a
step, so that the result does not depend on the number of devices. Both passes draw the same dropout
masks, and both update running statistics of batch norms.
"""

from __future__ import annotations

from collections.abc import Sequence
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


class SAMConfig(TechniqueConfig):
    """Settings of SAM."""

    name: Literal["sam"] = "sam"
    rho: float = setting(
        0.05, help="how far uphill the gradient is taken", ge=0.0, search=SearchRange(0.01, 0.5, "log")
    )


def sharpness_aware(gradients: Gradients, params: Sequence[nn.Parameter], rho: float) -> Tensor:
    """Leave in ``.grad`` the gradient at ``w + rho * g / ||g||``, and return the loss at ``w``.

    The weights are the same bits afterwards as before, also where ``gradients`` raises. Where the
    first gradient is not finite there is no second; where either is not, neither is the returned loss.

    Args:
        gradients: fills ``.grad`` anew and returns the loss.
        params: the weights; those that get no gradient stay where they are.
        rho: ρ, 0 or more.

    Raises:
        ValueError: ``rho`` is below 0.

    For the loss w² at w = 3 the gradient is taken at 3.5:

    >>> w = nn.Parameter(torch.tensor(3.0))
    >>> def gradients():
    ...     w.grad = 2 * w.detach()
    ...     return w.detach() ** 2
    >>> sharpness_aware(gradients, [w], 0.5), w.grad, w.data
    (tensor(9.), tensor(7.), tensor(3.))
    """
    if rho < 0.0:
        raise ValueError(f"rho is {rho} and must be 0 or more")
    loss = gradients()
    moved = [value for value in params if value.grad is not None]
    norm = get_total_norm([value.grad for value in moved if value.grad is not None])
    # One wait for the device, to spare a second pass that could only spread what is not finite.
    if not bool(torch.isfinite(norm)):
        return loss + norm
    scale = rho / (norm + 1e-12)
    with restored(moved):
        with torch.no_grad():
            for value in moved:
                if value.grad is not None:
                    value.addcmul_(value.grad, scale.to(value))
        there = gradients()
    return unless_broken(loss, there)


class SAM(Technique[SAMConfig]):
    """Takes the gradient of a step at the worst point nearby."""

    Config = SAMConfig
    facts = Facts(
        family="perturb",
        phase=PERTURB,
        paper="Foret et al. 2021, arXiv 2010.01412",
        passes=2.0,
        two_pass=True,
        neutral={"rho": 0.0},
    )

    def attach(self, plan: Plan) -> None:
        rho = self.config.rho
        if rho == 0.0:
            return

        def perturb(gradients: Gradients, params: Sequence[nn.Parameter], moment: Moment) -> Tensor:
            return sharpness_aware(gradients, params, rho)

        plan.add(PERTURB, perturb)

"""ASAM: SAM whose neighbourhood grows and shrinks with each weight.

Idea: scaling the weights of one layer up and of the next one down can leave a network's function as it
is and yet change how sharp SAM finds it. If each weight's step uphill is in proportion to the weight
itself, sharpness no longer depends on such scales.

Formula, with weights w, gradient g = ∇L(w), radius ρ, the diagonal T = |w| + η and norms over all
weights together:

* e = ρ T² g / ||T g||
* the step at w is taken with ∇L(w + e)

Paper: Kwon et al. 2021 (2102.11600), algorithm 1.

When it helps: as SAM does; where layers differ much in scale, as in networks with normalisation, one ρ
suits all of them.
When not: where time is short, since every step costs twice; fresh weights near zero hardly move.

Suggested values: ρ = 0.5, from 0.1 to 2, ten times SAM's; η = 0.01.

Cost: 2 passes; one copy of the weights.

Clashes: precision fp16, which rescales gradients between the passes (use bf16); another technique of
the phase perturb.

NOTE[DIFF]: T covers every weight; the authors' code leaves biases out of it and steps on them as SAM
does. The first pass is over the whole batch of a step, as in ``sam``, and both passes draw the same
dropout masks.
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


class ASAMConfig(TechniqueConfig):
    """Settings of adaptive SAM."""

    name: Literal["asam"] = "asam"
    rho: float = setting(
        0.5, help="how far uphill the gradient is taken", ge=0.0, search=SearchRange(0.1, 2.0, "log")
    )
    eta: float = setting(0.01, help="added to each weight's size, so that zeros move too", ge=0.0)


def adaptive_sharpness_aware(
    gradients: Gradients, params: Sequence[nn.Parameter], rho: float, eta: float
) -> Tensor:
    """Leave in ``.grad`` the gradient at ``w + rho * T² g / ||T g||``, and return the loss at ``w``.

    The weights are the same bits afterwards as before, also where ``gradients`` raises. Where the
    first gradient is not finite there is no second; where either is not, neither is the returned loss.

    Args:
        gradients: fills ``.grad`` anew and returns the loss.
        params: the weights; those that get no gradient stay where they are.
        rho: ρ, 0 or more.
        eta: η in T = |w| + η, 0 or more.

    Raises:
        ValueError: ``rho`` or ``eta`` is below 0.

    For the loss w² at w = 3 and η = 0 the gradient is taken at 3 + 0.5 · 3² · 6 / (3 · 6) = 4.5:

    >>> w = nn.Parameter(torch.tensor(3.0))
    >>> def gradients():
    ...     w.grad = 2 * w.detach()
    ...     return w.detach() ** 2
    >>> adaptive_sharpness_aware(gradients, [w], 0.5, 0.0), w.grad, w.data
    (tensor(9.), tensor(9.), tensor(3.))
    """
    for name, value in (("rho", rho), ("eta", eta)):
        if value < 0.0:
            raise ValueError(f"{name} is {value} and must be 0 or more")
    loss = gradients()
    graded = [(weight, weight.grad) for weight in params if weight.grad is not None]
    scaled = [(weight.detach().abs() + eta) * grad for weight, grad in graded]
    norm = get_total_norm(scaled)
    # One wait for the device, to spare a second pass that could only spread what is not finite.
    if not bool(torch.isfinite(norm)):
        return loss + norm
    scale = rho / (norm + 1e-12)
    with restored([weight for weight, _ in graded]):
        with torch.no_grad():
            for (weight, _), step in zip(graded, scaled, strict=True):
                weight.addcmul_((weight.abs() + eta) * step, scale.to(weight))
        there = gradients()
    return unless_broken(loss, there)


class ASAM(Technique[ASAMConfig]):
    """Takes the gradient of a step at the worst point of a neighbourhood that follows the weights."""

    Config = ASAMConfig
    facts = Facts(
        family="perturb",
        phase=PERTURB,
        paper="Kwon et al. 2021, arXiv 2102.11600",
        passes=2.0,
        two_pass=True,
        neutral={"rho": 0.0},
    )

    def attach(self, plan: Plan) -> None:
        rho, eta = self.config.rho, self.config.eta
        if rho == 0.0:
            return

        def perturb(gradients: Gradients, params: Sequence[nn.Parameter], moment: Moment) -> Tensor:
            return adaptive_sharpness_aware(gradients, params, rho, eta)

        plan.add(PERTURB, perturb)

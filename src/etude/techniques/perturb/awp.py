"""AWP: take the gradient at weights that were pushed uphill, each matrix in proportion to its own norm.

Idea: a loss surface that is flat in the weights goes with a small gap between training and test. The
weights are moved to where the loss is worse, the gradient is taken there, and they are put back before
the step. It begins late, when the weights are good enough for their neighbourhood to mean something.

Formula, for each matrix w with gradient g, at most one step uphill:

* e = adv_lr · (g / ||g||) · ||w||, cut to |e| <= adv_eps · |w| for each weight
* the step at w is taken with ∇L(w + e)

Paper: Wu et al. 2020 (2004.05884), section 3; in the form that text competitions made popular, without
an adversarial input, and with a bound for each weight.

When it helps: fine-tuning for several epochs, small or noisy data.
When not: short runs; before the weights have settled; where time is short.

Suggested values: adv_lr from 1e-4 to 1, adv_eps from 1e-3 to 0.2, start after the first epoch.

Cost: 2 passes from the start on, 1 before; one copy of the matrices.

Clashes: precision fp16, which rescales gradients between the passes (use bf16); another technique of
the phase perturb.

NOTE[DIFF]: the paper's bound is on the norm of a layer's change, ||e|| <= γ ||w||, which is adv_lr here;
adv_eps is the popular form's. Vectors (biases and the weights of norms) stay, as in the authors' code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from etude.config.fields import SearchRange, Time, setting
from etude.core.phases import PERTURB, Gradients
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Facts, Technique, TechniqueConfig
from etude.techniques.perturb import restored, unless_broken


class AWPConfig(TechniqueConfig):
    """Settings of adversarial weight perturbation."""

    name: Literal["awp"] = "awp"
    adv_lr: float = setting(
        0.1, help="length of a matrix's change, as a share of its norm", ge=0.0,
        search=SearchRange(1e-4, 1.0, "log"),
    )  # fmt: skip
    adv_eps: float = setting(
        0.01, help="largest change of a weight, as a share of it", ge=0.0,
        search=SearchRange(1e-3, 0.2, "log"),
    )  # fmt: skip
    start: Time = setting(Time(1, "ep"), help="when it begins, as '1ep', '500st' or '0.3dur'")


def uphill(weight: Tensor, grad: Tensor, adv_lr: float, adv_eps: float) -> Tensor:
    """Return the change ``adv_lr * g / ||g|| * ||w||``, cut to ``adv_eps * |w|``.

    Args:
        weight: of any shape.
        grad: of the same shape.
        adv_lr: share of the weight's norm, 0 or more.
        adv_eps: share of each number of the weight, 0 or more.

    Raises:
        ValueError: a share is below 0.

    The norm of the weight is 5; the second number may change by a tenth of 4 and no more:

    >>> uphill(torch.tensor([3.0, 4.0]), torch.tensor([0.0, 7.0]), 0.2, 0.1)
    tensor([0.0000, 0.4000])
    """
    for name, value in (("adv_lr", adv_lr), ("adv_eps", adv_eps)):
        if value < 0.0:
            raise ValueError(f"{name} is {value} and must be 0 or more")
    step = grad * (adv_lr * weight.norm() / (grad.norm() + 1e-12))
    bound = adv_eps * weight.abs()
    return step.clamp(-bound, bound)


def perturbed_weights(
    gradients: Gradients, params: Sequence[nn.Parameter], adv_lr: float, adv_eps: float
) -> Tensor:
    """Leave in ``.grad`` the gradient at the matrices pushed uphill, and return the loss at ``w``.

    The weights are the same bits afterwards as before, also where ``gradients`` raises.

    Args:
        gradients: fills ``.grad`` anew and returns the loss.
        params: the weights; those with fewer than two dimensions stay where they are.
        adv_lr: share of a matrix's norm.
        adv_eps: share of each weight.

    For the loss w² / 2 at a matrix of the single weight 3 the gradient is taken at 3 + 0.1 · 3:

    >>> w = nn.Parameter(torch.tensor([[3.0]]))
    >>> def gradients():
    ...     w.grad = w.detach().clone()
    ...     return w.detach().square().sum() / 2
    >>> perturbed_weights(gradients, [w], 0.5, 0.1), w.grad, w.data
    (tensor(4.5000), tensor([[3.3000]]), tensor([[3.]]))
    """
    loss = gradients()
    moved = [(value, value.grad) for value in params if value.grad is not None and value.dim() >= 2]
    with restored([value for value, _ in moved]):
        with torch.no_grad():
            for value, grad in moved:
                value.add_(uphill(value, grad, adv_lr, adv_eps))
        there = gradients()
    return unless_broken(loss, there)


class AWP(Technique[AWPConfig]):
    """Takes the gradient of a step at weights that were pushed uphill."""

    Config = AWPConfig
    facts = Facts(
        family="perturb",
        phase=PERTURB,
        paper="Wu et al. 2020, arXiv 2004.05884",
        passes=2.0,
        two_pass=True,
        neutral={"adv_lr": 0.0},
    )

    def attach(self, plan: Plan) -> None:
        adv_lr, adv_eps = self.config.adv_lr, self.config.adv_eps
        if adv_lr == 0.0 or adv_eps == 0.0:
            return
        start = plan.context.steps(self.config.start)

        def perturb(gradients: Gradients, params: Sequence[nn.Parameter], moment: Moment) -> Tensor:
            if moment.step < start:
                return gradients()
            return perturbed_weights(gradients, params, adv_lr, adv_eps)

        plan.add(PERTURB, perturb)

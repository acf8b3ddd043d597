"""Gradient noise: add random numbers to every gradient, fewer and fewer as training goes on.

Idea: early in training a little noise carries the weights over saddle points and out of bad starts;
later, when they have found a good region, it dies away.

Formula, for every gradient g at step t (t = 0, 1, ...):

* g' = g + n with n ~ N(0, σ_t²)
* σ_t² = η / (1 + t)^γ

Paper: Neelakantan et al. 2015 (1511.06807), equation 1.

When it helps: very deep or badly conditioned networks trained from scratch, mostly by plain SGD.
When not: fine-tuning large networks with the paper's η: the noise has the norm sqrt(η · number of
weights), and under Adam every weight moves by the learning rate whatever its gradient is.

Suggested values: γ = 0.55; the paper chose η among 0.01, 0.3 and 1, for networks far smaller than
today's. Choose η so that sqrt(η · number of weights) stays below the logged gradient norm: 1e-8 for
20 million weights and a norm of 1.

Cost: 1 pass; one random number for each weight and step.

Clashes: none.

NOTE[DIFF]: the noise comes after clipping by value and by unit, and in front of clipping by norm, so that
no gradient is longer than that bound. Weights without a gradient in a step get no noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Generator, nn

from etude.config.fields import SearchRange, setting
from etude.core.phases import GRADIENT
from etude.core.plan import Plan
from etude.core.rng import Moment, key
from etude.core.technique import Facts, Technique, TechniqueConfig

NOISE_RANK = 50
"""Behind clipping by value and by unit, in front of clipping by norm."""


class GradientNoiseConfig(TechniqueConfig):
    """Settings of gradient noise."""

    name: Literal["gradient_noise"] = "gradient_noise"
    eta: float = setting(
        1e-6, help="variance of the noise at the first step", ge=0.0, search=SearchRange(1e-9, 1.0, "log")
    )
    gamma: float = setting(
        0.55, help="how fast the noise dies away; 0 keeps it", ge=0.0, search=SearchRange(0.3, 1.0)
    )


def noise_scale(step: int, eta: float, gamma: float) -> float:
    """Return the standard deviation of the noise, ``sqrt(eta / (1 + step)**gamma)``.

    Args:
        step: steps done, t.
        eta: η, 0 or more.
        gamma: γ, 0 or more.

    Raises:
        ValueError: ``eta`` or ``gamma`` is below 0.

    >>> [round(noise_scale(t, 0.01, 0.55), 4) for t in (0, 9, 999)]
    [0.1, 0.0531, 0.015]
    """
    for name, value in (("eta", eta), ("gamma", gamma)):
        if value < 0.0:
            raise ValueError(f"{name} is {value} and must be 0 or more")
    return float((eta / (1 + step) ** gamma) ** 0.5)


def add_noise(params: Sequence[nn.Parameter], scale: float, generator: Generator) -> None:
    """Add Gaussian noise to every gradient, in place.

    Args:
        params: parameters; those without a gradient are passed over.
        scale: standard deviation.
        generator: draws the noise, on the device of the parameters.

    >>> w = nn.Parameter(torch.zeros(2))
    >>> w.grad = torch.tensor([3.0, 4.0])
    >>> add_noise([w], 0.1, torch.Generator().manual_seed(0))
    >>> w.grad
    tensor([3.1541, 3.9707])
    """
    for value in params:
        if value.grad is not None:
            noise = torch.randn(value.shape, generator=generator, device=value.device)
            value.grad.add_(noise.to(value.grad), alpha=scale)


class GradientNoise(Technique[GradientNoiseConfig]):
    """Adds noise to the gradient of a step."""

    Config = GradientNoiseConfig
    facts = Facts(
        family="gradient",
        phase=GRADIENT,
        paper="Neelakantan et al. 2015, arXiv 1511.06807",
        neutral={"eta": 0.0},
    )

    def attach(self, plan: Plan) -> None:
        eta, gamma = self.config.eta, self.config.gamma
        if eta == 0.0:
            return

        def change(params: Sequence[nn.Parameter], moment: Moment) -> None:
            if params:
                # On the weights' own device, where drawing is fast; every process draws the same.
                source = torch.Generator(device=params[0].device)
                source.manual_seed(key(moment.seed, "gradient_noise", moment.step))
                add_noise(params, noise_scale(moment.step, eta, gamma), source)

        plan.add(GRADIENT, change, rank=NOISE_RANK)

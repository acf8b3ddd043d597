"""Techniques that take gradients elsewhere, against their papers' formulae, in float64.

The loss is ``w' A w / 2``, whose gradient is ``A w`` at every point, so that each technique's gradient
can be written out.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from etude.core.rng import Moment
from etude.techniques.perturb.asam import adaptive_sharpness_aware
from etude.techniques.perturb.awp import perturbed_weights
from etude.techniques.perturb.fgm import worst_change
from etude.techniques.perturb.looksam import LookSAM, LookSAMConfig
from etude.techniques.perturb.sam import sharpness_aware

LR = 0.01
Step = Callable[["Quadratic", int], object]
ByHand = Callable[[Tensor, Tensor, int], Tensor]


class Quadratic:
    """The loss, over a matrix of weights (3, 2)."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        root = torch.randn(6, 6, generator=generator, dtype=torch.float64)
        self.matrix = root @ root.T
        self.weight = nn.Parameter(torch.randn(3, 2, generator=generator, dtype=torch.float64))

    def __call__(self) -> Tensor:
        w = self.weight.detach().flatten()
        self.weight.grad = (self.matrix @ w).view(3, 2)
        return w @ self.matrix @ w / 2


def rows() -> Iterator[tuple[str, str, float]]:
    """Yield technique, reference, and the largest absolute difference in float64."""
    yield "sam", "gradient at w + ρ g / ||g||, 10 steps", descent(
        lambda q, _: sharpness_aware(q, [q.weight], 0.1), lambda w, g, _: w + 0.1 * g / g.norm()
    )  # fmt: skip
    yield "asam", "gradient at w + ρ T² g / ||T g||, 10 steps", descent(
        lambda q, _: adaptive_sharpness_aware(q, [q.weight], 0.5, 0.01),
        lambda w, g, _: w + 0.5 * (w.abs() + 0.01) ** 2 * g / ((w.abs() + 0.01) * g).norm(),
    )  # fmt: skip
    yield "awp", "gradient at w + clip(adv_lr ||w|| g / ||g||, adv_eps |w|), 10 steps", descent(
        lambda q, _: perturbed_weights(q, [q.weight], 0.4, 0.2),
        lambda w, g, _: torch.minimum(
            torch.maximum(w + 0.4 * w.norm() * g / g.norm(), w - 0.2 * w.abs()), w + 0.2 * w.abs()
        ),
    )  # fmt: skip
    yield "looksam", "the paper's algorithm 1 with k = 3, 10 steps", looksam()
    gradient = torch.randn(5, 4, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    by_row = torch.stack([0.7 * row / row.norm() for row in gradient])
    yield "fgm", "ε g / ||g|| row by row", float((worst_change(gradient, 0.7) - by_row).abs().max())


def descent(step: Step, point: ByHand) -> float:
    """Ten steps with the technique, and ten by hand with the gradient at the given point."""
    quadratic, w = Quadratic(), Quadratic().weight.detach().flatten()
    for t in range(10):
        step(quadratic, t)
        descend(quadratic)
        w = w - LR * quadratic.matrix @ point(w, quadratic.matrix @ w, t)
    return apart(quadratic, w)


def looksam() -> float:
    """Our LookSAM, and the paper's formulae."""
    technique, v = LookSAM(LookSAMConfig(rho=0.2, k=3, alpha=0.7)), torch.zeros(6, dtype=torch.float64)
    quadratic, w = Quadratic(), Quadratic().weight.detach().flatten()
    for t in range(10):
        technique.perturb(quadratic, [quadratic.weight], Moment(0, t, 0, 10, 10))
        descend(quadratic)
        g = quadratic.matrix @ w
        if t % 3 == 0:
            s = quadratic.matrix @ (w + 0.2 * g / g.norm())
            cosine = g @ s / (g.norm() * s.norm())
            v, w = s - s.norm() * cosine * g / g.norm(), w - LR * s
        else:
            w = w - LR * (g + 0.7 * g.norm() / v.norm() * v)
    return apart(quadratic, w)


def descend(quadratic: Quadratic) -> None:
    """A plain step along the gradient that is there."""
    if quadratic.weight.grad is not None:
        quadratic.weight.data.sub_(quadratic.weight.grad, alpha=LR)


def apart(quadratic: Quadratic, w: Tensor) -> float:
    """The largest absolute difference of the weights."""
    return float((quadratic.weight.detach().flatten() - w).abs().max())

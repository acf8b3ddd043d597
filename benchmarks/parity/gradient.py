"""Changes of the gradient against torch, pytorch_optimizer and formulae written out, in float64."""

from collections.abc import Iterator

import torch
from pytorch_optimizer.optimizer import agc
from torch import Tensor, nn

from etude.techniques.gradient.adaptive_clip import clip_units
from etude.techniques.gradient.clip import clip_gradients
from etude.techniques.gradient.clip_value import clip_values
from etude.techniques.gradient.gradient_noise import noise_scale

SHAPES = ((7,), (4, 3), (6, 2, 3, 3))


def rows() -> Iterator[tuple[str, str, float]]:
    """Yield technique, reference, and the largest absolute difference in float64."""
    ours, theirs = parameters(), parameters()
    clip_gradients(ours, 0.5)
    torch.nn.utils.clip_grad_norm_(theirs, 0.5)
    yield "clip", "torch.nn.utils.clip_grad_norm_", apart(ours, theirs)

    ours, theirs = parameters(), parameters()
    clip_values(ours, 0.3)
    torch.nn.utils.clip_grad_value_(theirs, 0.3)
    yield "clip_value", "torch.nn.utils.clip_grad_value_", apart(ours, theirs)

    ours, theirs = parameters(), parameters()
    clip_units(ours, 0.05)
    for value in theirs:
        value.grad = agc(value.detach(), grad_of(value), agc_eps=1e-3, agc_clip_val=0.05)
    yield "adaptive_clip", "pytorch_optimizer's agc", apart(ours, theirs)

    variances = [noise_scale(t, 0.3, 0.55) ** 2 - 0.3 / (1 + t) ** 0.55 for t in range(1000)]
    yield "gradient_noise", "variance η / (1 + t)^γ over 1000 steps", max(abs(v) for v in variances)


def parameters() -> list[nn.Parameter]:
    """Weights with gradients."""
    generator = torch.Generator().manual_seed(0)
    values = [nn.Parameter(torch.randn(s, generator=generator, dtype=torch.float64)) for s in SHAPES]
    for value in values:
        value.grad = torch.randn(value.shape, generator=generator, dtype=torch.float64)
    return values


def grad_of(value: nn.Parameter) -> Tensor:
    """The gradient of a weight, which has one."""
    return torch.zeros_like(value) if value.grad is None else value.grad


def apart(ours: list[nn.Parameter], theirs: list[nn.Parameter]) -> float:
    """The largest absolute difference of any gradient."""
    return max(float((grad_of(a) - grad_of(b)).abs().max()) for a, b in zip(ours, theirs, strict=True))

"""A loss whose gradient is known everywhere, for techniques that take gradients elsewhere."""

import torch
from torch import Tensor, nn


class Quadratic:
    """The loss ``w' A w / 2`` of a matrix, a vector and a number, whose gradient is ``A w``."""

    def __init__(self, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        root = torch.randn(8, 8, generator=generator, dtype=torch.float64)
        self.matrix = root @ root.T
        shapes = ((2, 2), (3,), (1,))
        self.params = [nn.Parameter(torch.randn(s, generator=generator, dtype=torch.float64)) for s in shapes]
        self.calls = 0

    def whole(self) -> Tensor:
        """All weights in one vector (8,)."""
        return torch.cat([value.flatten() for value in self.params])

    def grads(self) -> Tensor:
        """All gradients in one vector (8,)."""
        return torch.cat([value.grad.flatten() for value in self.params if value.grad is not None])

    def __call__(self) -> Tensor:
        self.calls += 1
        for value in self.params:
            value.grad = None
        loss = self.whole() @ self.matrix @ self.whole() / 2
        loss.backward()
        return loss.detach()


class Breaking(Quadratic):
    """The same loss, with something that happens at one of the calls.

    Args:
        at: the number of that call, from 1.
        how: ``"raise"`` runs out of memory, ``"gradient"`` and ``"loss"`` give an infinite one.
    """

    def __init__(self, at: int, how: str) -> None:
        super().__init__()
        self.at, self.how = at, how

    def __call__(self) -> Tensor:
        loss = super().__call__()
        if self.calls != self.at:
            return loss
        if self.how == "raise":
            raise MemoryError("out of memory")
        if self.how == "gradient":
            first = self.params[0].grad
            assert first is not None
            first[0, 0] = torch.inf
            return loss
        return loss + torch.inf

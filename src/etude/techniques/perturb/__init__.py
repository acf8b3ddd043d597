"""Perturbations: a step's gradient taken elsewhere than at the weights and the inputs themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor


@contextmanager
def restored(weights: Sequence[Tensor]) -> Iterator[None]:
    """Give the weights back bit for bit on leaving, also where the body raises.

    >>> w = torch.tensor([0.1])
    >>> with restored([w]):
    ...     _ = w.add_(7.0)
    >>> w
    tensor([0.1000])
    """
    # Copies, since (w + e) - e is not w in floating point.
    saved = [value.detach().clone() for value in weights]
    try:
        yield
    finally:
        with torch.no_grad():
            for value, old in zip(weights, saved, strict=True):
                value.copy_(old)


def unless_broken(loss: Tensor, there: Tensor) -> Tensor:
    """Return the loss, or nan where the loss elsewhere is not finite, so that the step is left out.

    >>> unless_broken(torch.tensor(1.0), torch.tensor(float("inf")))
    tensor(nan)
    """
    return torch.where(torch.isfinite(there), loss, torch.nan)

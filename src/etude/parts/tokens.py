"""From the features of all tokens (B, L, D) to one vector for each text (B, D), without weights.

Which tokens count is always read from the attention mask, never from token ids: a padding token may
be the same as a real one (decoders are padded with their end-of-text token), and the padding may stand
on either side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Pooling = Callable[[Tensor, Tensor], Tensor]


def pool_cls(hidden: Tensor, mask: Tensor) -> Tensor:
    """Return the features of the first real token."""
    return hidden[_rows(hidden), mask.long().argmax(dim=1)]


def pool_last(hidden: Tensor, mask: Tensor) -> Tensor:
    """Return the features of the last real token, whichever side the padding is on.

    >>> hidden = torch.arange(6.0).view(2, 3, 1)
    >>> pool_last(hidden, torch.tensor([[1, 1, 0], [0, 1, 1]])).tolist()
    [[1.0], [5.0]]
    """
    positions = torch.arange(mask.shape[1], device=mask.device)
    return hidden[_rows(hidden), (positions * mask.long()).argmax(dim=1)]


def pool_mean(hidden: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of the features of the real tokens, computed in float32 or better.

    >>> hidden = torch.arange(6.0).view(2, 3, 1)
    >>> pool_mean(hidden, torch.tensor([[1, 1, 0], [0, 1, 1]])).tolist()
    [[0.5], [4.5]]
    """
    hidden = hidden if hidden.dtype == torch.float64 else hidden.float()
    weights = mask.to(hidden.dtype)
    weights = weights / weights.sum(dim=1, keepdim=True).clamp_min(1.0)
    # One matrix product for each text: (B, 1, L) @ (B, L, D).
    with torch.autocast(hidden.device.type, enabled=False):
        return torch.bmm(weights[:, None, :], hidden)[:, 0]


def pool_max(hidden: Tensor, mask: Tensor) -> Tensor:
    """Return the largest value of each feature over the real tokens."""
    lowest = torch.finfo(hidden.dtype).min
    return hidden.masked_fill(~mask.bool()[:, :, None], lowest).amax(dim=1)


POOLINGS: Mapping[str, Pooling] = {
    "cls": pool_cls,
    "mean": pool_mean,
    "max": pool_max,
    "last": pool_last,
}


def left_aligned(hidden: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Move each text's real tokens to the left, in their order, and set the rest to zero.

    Returns:
        The features (B, L, D) and the numbers of real tokens (B,).

    >>> hidden = torch.tensor([[[9.0], [1.0], [2.0]]])
    >>> aligned, lengths = left_aligned(hidden, torch.tensor([[0, 1, 1]]))
    >>> aligned.flatten().tolist(), lengths.tolist()
    ([1.0, 2.0, 0.0], [2])
    """
    real = mask.bool()
    order = (~real).long().argsort(dim=1, stable=True)
    moved = hidden.masked_fill(~real[:, :, None], 0.0).gather(1, order[:, :, None].expand_as(hidden))
    return moved, real.sum(dim=1)


def _rows(hidden: Tensor) -> Tensor:
    return torch.arange(hidden.shape[0], device=hidden.device)

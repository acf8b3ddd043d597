"""Pooling: from the features of all tokens (B, L, D) to one vector for each text (B, D).

Which tokens count is always read from the attention mask, never from token ids: a padding token may
be the same as a real one (decoders are padded with their end-of-text token), and the padding may stand
on either side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from etude.errors import ConfigError

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
    """Return the mean of the features of the real tokens, computed in float32.

    >>> hidden = torch.arange(6.0).view(2, 3, 1)
    >>> pool_mean(hidden, torch.tensor([[1, 1, 0], [0, 1, 1]])).tolist()
    [[0.5], [4.5]]
    """
    weights = mask.to(torch.float32)
    weights = weights / weights.sum(dim=1, keepdim=True).clamp_min(1.0)
    # One matrix product for each text: (B, 1, L) @ (B, L, D).
    with torch.autocast(hidden.device.type, enabled=False):
        return torch.bmm(weights[:, None, :], hidden.float())[:, 0]


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


def _rows(hidden: Tensor) -> Tensor:
    return torch.arange(hidden.shape[0], device=hidden.device)


def pooling_of_sentence_transformer(settings: Mapping[str, Any]) -> str:
    """Return the pooling that the ``1_Pooling/config.json`` of a sentence-transformers folder names.

    Raises:
        ConfigError: it is a pooling that we do not have, or several at once.

    >>> pooling_of_sentence_transformer({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False})
    'mean'
    """
    named = settings.get("pooling_mode")
    flags = [key for key, on in settings.items() if key.startswith("pooling_mode_") and on]
    said = [str(named)] if named else flags
    known = {_NAMES[word] for word in said if word in _NAMES}
    if len(said) != 1 or len(known) != 1:
        raise ConfigError(
            f"the checkpoint pools by {', '.join(said) or 'nothing known'}, which backbone.pooling = 'auto' "
            f"cannot follow; choose one of {', '.join(POOLINGS)}"
        )
    return known.pop()


_NAMES = {
    "cls": "cls",
    "pooling_mode_cls_token": "cls",
    "mean": "mean",
    "pooling_mode_mean_tokens": "mean",
    "max": "max",
    "pooling_mode_max_tokens": "max",
    "lasttoken": "last",
    "pooling_mode_lasttoken": "last",
}
"""How sentence-transformers writes a pooling, in its newer form and its older one."""

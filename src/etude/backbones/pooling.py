"""Which pooling a checkpoint names; the poolings themselves are in :mod:`etude.parts.tokens`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from etude.errors import ConfigError
from etude.parts.tokens import POOLINGS

__all__ = ["POOLINGS", "pooling_of_sentence_transformer"]


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

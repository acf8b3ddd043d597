"""How many tokens a network has positions for."""

from __future__ import annotations

from typing import Any

_SHIFTED = {"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "roberta-prelayernorm", "mpnet"}
"""Architectures whose positions begin after the padding token's id."""


def n_positions(settings: Any) -> int | None:
    """Return the largest number of tokens, or None where positions are relative.

    Args:
        settings: the configuration of a transformers network.
    """
    limit = getattr(settings, "max_position_embeddings", None)
    if limit is None or getattr(settings, "position_biased_input", True) is False:
        return None  # DeBERTa's positions are relative
    shift = settings.pad_token_id + 1 if settings.model_type in _SHIFTED else 0
    return int(limit) - shift

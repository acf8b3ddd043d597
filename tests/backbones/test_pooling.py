"""Poolings by hand, on both padding sides, and what sentence-transformers folders say."""

import pytest
import torch

from etude.backbones.pooling import POOLINGS, pooling_of_sentence_transformer
from etude.errors import ConfigError

HIDDEN = torch.tensor([[[1.0, -5.0], [3.0, -1.0], [9.0, 9.0]], [[9.0, 9.0], [2.0, -4.0], [6.0, -8.0]]])
MASK = torch.tensor([[1, 1, 0], [0, 1, 1]])


@pytest.mark.parametrize("mask", [MASK, MASK.bool()])
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cls", [[1.0, -5.0], [2.0, -4.0]]),
        ("last", [[3.0, -1.0], [6.0, -8.0]]),
        ("mean", [[2.0, -3.0], [4.0, -6.0]]),
        ("max", [[3.0, -1.0], [6.0, -4.0]]),
    ],
)
def test_only_real_tokens_count(name: str, expected: list[list[float]], mask: torch.Tensor) -> None:
    assert POOLINGS[name](HIDDEN, mask).tolist() == expected


def test_mean_under_autocast_stays_in_float32() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        pooled = POOLINGS["mean"](HIDDEN.bfloat16(), MASK)
    assert pooled.dtype == torch.float32


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"word_embedding_dimension": 8, "pooling_mode_cls_token": True}, "cls"),
        ({"pooling_mode_max_tokens": True, "pooling_mode_mean_tokens": False}, "max"),
        ({"pooling_mode_lasttoken": True, "include_prompt": True}, "last"),
        ({"pooling_mode": "mean"}, "mean"),
        ({"pooling_mode": "lasttoken"}, "last"),
    ],
)
def test_sentence_transformers_name_their_pooling(settings: dict[str, object], expected: str) -> None:
    assert pooling_of_sentence_transformer(settings) == expected


def test_unknown_or_several_poolings_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"by pooling_mode_mean_sqrt_len_tokens, .* choose one of cls"):
        pooling_of_sentence_transformer({"pooling_mode_mean_sqrt_len_tokens": True})
    with pytest.raises(ConfigError, match="choose one of"):
        pooling_of_sentence_transformer({"pooling_mode_cls_token": True, "pooling_mode_max_tokens": True})

"""Attention pooling against its formula written out, token by token."""

import math

import pytest
import torch

from etude.errors import ConfigError
from etude.techniques import technique_class
from etude.techniques.heads.attention_pooling import attention_pooler
from etude.testing.harness import Setup, make_engine


def test_by_hand_token_by_token() -> None:
    pooler = attention_pooler(4, heads=2, hidden=3).double().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in pooler.parameters():
            value.copy_(torch.randn(value.shape, generator=generator, dtype=torch.float64))
    tokens = torch.randn(1, 5, 4, generator=generator, dtype=torch.float64)
    found = pooler([tokens], torch.tensor([[1, 1, 1, 0, 0]]))[0]
    weight, bias, query = pooler.dense.weight, pooler.dense.bias, pooler.query.weight
    for j in range(2):
        scores = [
            sum(float(query[j, a]) * math.tanh(float(weight[a] @ tokens[0, i] + bias[a])) for a in range(3))
            for i in range(3)
        ]
        total = sum(math.exp(s) for s in scores)
        for d in (2 * j, 2 * j + 1):
            expected = sum(math.exp(s) / total * float(tokens[0, i, d]) for i, s in enumerate(scores))
            assert float(found[d]) == pytest.approx(expected, abs=1e-12)


def test_it_begins_as_the_mean_and_learns_to_weigh() -> None:
    engine = make_engine({technique_class("attention_pooling"): {}}, Setup())
    pooler = engine.backbone.pooler
    assert pooler is not None
    assert not pooler.get_parameter("query.weight").any()
    engine.fit()
    assert pooler.get_parameter("query.weight").abs().max() > 0
    assert pooler.get_parameter("dense.weight").grad is not None


def test_heads_that_do_not_divide_the_width() -> None:
    with pytest.raises(ConfigError, match="attention_pooling: heads = 3 does not divide the width 8"):
        make_engine({technique_class("attention_pooling"): {"heads": 3}}, Setup())

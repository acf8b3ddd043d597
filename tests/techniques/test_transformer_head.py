"""The transformer head against torch's own encoder layer with the same weights."""

import pytest
import torch
from torch import nn

from etude.errors import ConfigError
from etude.parts.tokens import pool_mean
from etude.parts.transformer_head import EncoderLayer
from etude.techniques import technique_class
from etude.techniques.heads.transformer_head import transformer_pooler
from etude.testing.harness import Setup, make_engine


def torchs_layer(layer: EncoderLayer, width: int, heads: int, hidden: int) -> nn.TransformerEncoderLayer:
    theirs = nn.TransformerEncoderLayer(
        width, heads, hidden, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    ).double()
    with torch.no_grad():
        theirs.self_attn.in_proj_weight.copy_(layer.query_key_value.weight)
        theirs.self_attn.in_proj_bias.copy_(layer.query_key_value.bias)
        for mine, its in [
            (layer.attention_out, theirs.self_attn.out_proj),
            (layer.dense, theirs.linear1),
            (layer.out, theirs.linear2),
            (layer.attention_norm, theirs.norm1),
            (layer.norm, theirs.norm2),
        ]:
            its.load_state_dict(mine.state_dict())
    return theirs


def test_layers_are_torchs_own() -> None:
    pooler = transformer_pooler(8, layers=2, heads=2, hidden=12, dropout=0.0, seed=3).double()
    generator = torch.Generator().manual_seed(0)
    for value in pooler.parameters():
        value.data += 0.1 * torch.randn(value.shape, generator=generator, dtype=torch.float64)
    tokens = torch.randn(3, 5, 8, generator=generator, dtype=torch.float64)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 0, 0, 1, 1]])
    hidden = tokens
    for layer in pooler.layers:
        assert isinstance(layer, EncoderLayer)
        # In training mode, where torch takes no other way for whole batches; nothing is dropped.
        hidden = torchs_layer(layer, 8, 2, 12).train()(hidden, src_key_padding_mask=mask == 0)
    expected = pool_mean(pooler.norm(hidden), mask)
    assert torch.allclose(pooler([tokens], mask), expected, rtol=0, atol=1e-12)


def test_settings_reach_the_part() -> None:
    engine = make_engine(
        {technique_class("transformer_head"): {"layers": 2, "heads": 4, "tokens": "cls"}}, Setup()
    )
    pooler = engine.backbone.pooler
    assert pooler is not None
    assert pooler.settings == {
        "width": 8, "layers": 2, "heads": 4, "hidden": 32, "tokens": "cls", "dropout": 0.1,
    }  # fmt: skip


def test_heads_that_do_not_divide_the_width() -> None:
    with pytest.raises(ConfigError, match="transformer_head: heads = 5 does not divide the width 8"):
        make_engine({technique_class("transformer_head"): {"heads": 5}}, Setup())

"""Keyed dropout: its rate, its scale, its gradient, and attention written out against torch's."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from etude.backbones.attention import attention
from etude.backbones.dropout import DropoutKeys, KeyedDropout, key_dropout_layers, keyed_dropout


def keyed(key: int) -> DropoutKeys:
    keys = DropoutKeys()
    keys.set(key)
    return keys


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("p", [0.1, 0.25, 0.5, 0.9])
def test_rate_and_scale(p: float, dtype: torch.dtype) -> None:
    n = 200_000
    dropped = keyed_dropout(torch.ones(n, dtype=dtype), p, keyed(0))
    assert len(dropped.unique()) == 2
    share = float((dropped == 0).float().mean())
    assert abs(share - p) < 5 * (p * (1 - p) / n) ** 0.5
    assert abs(float(dropped.max()) - 1 / (1 - p)) < 0.005 / (1 - p)


def test_draws_are_independent_of_the_shape_before_them_only_in_order() -> None:
    x = torch.ones(1000)
    keys = keyed(3)
    first, second = keyed_dropout(x, 0.5, keys), keyed_dropout(x, 0.5, keys)
    assert not torch.equal(first, second)
    keys.set(3)
    assert torch.equal(keyed_dropout(x, 0.5, keys), first)
    assert torch.equal(keyed_dropout(x, 0.5, keys), second)


def test_gradient_is_the_same_mask() -> None:
    x = torch.randn(64, dtype=torch.float32, generator=torch.Generator().manual_seed(0)).requires_grad_()
    dropped = keyed_dropout(x, 0.4, keyed(1))
    (3.0 * dropped).sum().backward()
    assert x.grad is not None
    assert torch.allclose(x.grad * x.detach() / 3.0, dropped.detach())


def test_extreme_rates_and_evaluation() -> None:
    x = torch.randn(10)
    assert keyed_dropout(x, 0.0, keyed(0)) is x
    assert torch.equal(keyed_dropout(x, 1.0, keyed(0)), torch.zeros(10))
    layer = KeyedDropout(0.5, keyed(0))
    assert layer.eval()(x) is x
    layer.p = 0.0
    assert layer.train()(x) is x


def test_without_a_key_torch_draws() -> None:
    torch.manual_seed(0)
    ours = KeyedDropout(0.5, DropoutKeys())(torch.ones(100))
    torch.manual_seed(0)
    assert torch.equal(ours, nn.Dropout(0.5)(torch.ones(100)))
    with pytest.raises(RuntimeError, match=r"no dropout key was set; call Backbone\.key_randomness first"):
        DropoutKeys().bits(1)


def test_layers_are_exchanged_once_and_keep_their_rate() -> None:
    model = nn.Sequential(nn.Dropout(0.2), nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.3)))
    keys = keyed(0)
    assert key_dropout_layers(model, keys) == 2
    layers = [module for module in model.modules() if isinstance(module, KeyedDropout)]
    assert [layer.p for layer in layers] == [0.2, 0.3]
    assert key_dropout_layers(model, keys) == 2
    assert [module for module in model.modules() if isinstance(module, KeyedDropout)] == layers


class _Attention(nn.Module):
    def __init__(self, *, is_causal: bool, groups: int, keys: DropoutKeys) -> None:
        super().__init__()
        self.is_causal, self.num_key_value_groups = is_causal, groups
        self.dropout_keys: Any = keys


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
def test_written_out_attention_equals_the_fused_one(is_causal: bool, masked: bool, groups: int) -> None:
    generator = torch.Generator().manual_seed(0)

    def draw(heads: int) -> Tensor:
        return torch.randn(3, heads, 5, 8, generator=generator).bfloat16().requires_grad_()

    query, key, value = draw(4), draw(4 // groups), draw(4 // groups)
    mask = torch.ones(3, 1, 5, 5, dtype=torch.bool)
    mask[1, :, :, 3:] = False
    if is_causal:
        mask = mask.tril()
    layer = _Attention(is_causal=is_causal, groups=groups, keys=keyed(0))
    given = mask if masked else None
    written, _ = attention(layer, query, key, value, given)
    with torch.no_grad():
        fused, _ = attention(layer, query, key, value, given)
    assert written.shape == fused.shape == (3, 5, 4, 8)
    assert torch.allclose(written.float(), fused.float(), atol=0.03)
    rare, _ = attention(layer, query, key, value, given, dropout=1e-6)
    assert torch.equal(rare, written)


def test_attention_dropout_is_unbiased_and_keyed() -> None:
    query = torch.zeros(64, 2, 4, 8)
    value = torch.ones(64, 2, 4, 8)
    keys = keyed(0)
    layer = _Attention(is_causal=False, groups=1, keys=keys)
    first, _ = attention(layer, query, query, value, None, dropout=0.5)
    keys.set(0)
    again, _ = attention(layer, query, query, value, None, dropout=0.5)
    other, _ = attention(layer, query, query, value, None, dropout=0.5)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert abs(float(first.mean()) - 1.0) < 0.1

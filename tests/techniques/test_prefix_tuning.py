"""Prefix tuning: attention by hand, the network that makes the vectors, and what trains."""

from itertools import product

import pytest
import torch
from tiny_contexts import make_context
from torch import nn

from etude.backbones.attention import attention
from etude.core.plan import build_plan
from etude.errors import ConflictError
from etude.parts.prefix import SLOT, AttentionSizes, Prefix, PrefixSlot
from etude.techniques import technique_class
from etude.techniques.efficient.prefix_tuning import PrefixTuning, make_prefix
from etude.testing.harness import Setup, make, make_engine
from etude.testing.tiny import TinyTransformer

INPUTS = {
    "input_ids": torch.tensor([[3, 4, 5, 6], [7, 8, 0, 0]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]),
}


def prefixed(n_tokens: int = 3, mlp: int = 0) -> TinyTransformer:
    backbone = TinyTransformer(3).eval()
    prefix = make_prefix(backbone.attention_sizes(), n_tokens, mlp, seed=0)
    with torch.no_grad():
        for value in prefix.parameters():
            value.normal_(generator=torch.Generator().manual_seed(value.numel()))
    backbone.put_prefix(prefix)
    return backbone


@pytest.mark.parametrize("masked", ["padding", "numbers", "causal", "no"])
def test_attention_by_hand(masked: str) -> None:
    """Two heads of queries share one of keys, one query at a time."""
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(2, heads, 4, 3, generator=generator, dtype=torch.float64) for heads in (2, 1, 1)
    )
    prefix = Prefix(n_tokens=2, n_layers=2, n_heads=1, d_head=3).double()
    nn.init.normal_(prefix.vectors, generator=generator)
    module = nn.Module()
    module.num_key_value_groups, module.is_causal = 2, masked == "causal"  # type: ignore[assignment]
    setattr(module, SLOT, PrefixSlot(prefix, 1))
    sees = torch.ones(2, 4, 4, dtype=torch.bool)
    if masked == "causal":
        sees = sees.tril()
    elif masked != "no":
        sees[1, :, 2:] = False
    mask = sees[:, None] if masked in ("padding", "numbers") else None
    if masked == "numbers" and mask is not None:
        mask = torch.zeros(mask.shape, dtype=torch.float64).masked_fill(~mask, -1e9)
    found, _ = attention(module, query, key, value, mask)
    own_key, own_value = prefix.vectors[1, :, 0]
    for text, head, token in product(range(2), range(2), range(4)):
        keys = torch.cat([own_key, key[text, 0][sees[text, token]]])
        values = torch.cat([own_value, value[text, 0][sees[text, token]]])
        weights = (keys @ query[text, head, token] / 3**0.5).softmax(dim=0)
        torch.testing.assert_close(found[text, token, head], weights @ values)


def test_padding_on_either_side_means_nothing() -> None:
    backbone = prefixed()
    alone = backbone({name: value[1:, :2] for name, value in INPUTS.items()}).logits[0]
    turned = backbone({name: value.roll(2, dims=1) for name, value in INPUTS.items()}).logits[1]
    torch.testing.assert_close(backbone(INPUTS).logits[1], alone)
    torch.testing.assert_close(turned, alone)
    assert not torch.allclose(TinyTransformer(3).eval()(INPUTS).logits[1], alone, atol=1e-3)


def test_the_networks_vectors_by_hand_and_as_free_vectors() -> None:
    backbone = prefixed(mlp=5)
    prefix = backbone.prefix
    assert isinstance(prefix, Prefix)
    weights = dict(prefix.named_parameters())
    hidden = torch.tanh(weights["table"] @ weights["inner.weight"].T + weights["inner.bias"])
    flat = hidden @ weights["outer.1.weight"].T + weights["outer.1.bias"]
    torch.testing.assert_close(prefix.of_layer(1)[0, 0], flat[:, :8])
    torch.testing.assert_close(prefix.of_layer(1)[1, 0], flat[:, 8:])
    before = backbone(INPUTS).logits
    backbone.put_prefix(prefix.plain())
    torch.testing.assert_close(backbone(INPUTS).logits, before)
    assert sum(value.numel() for value in prefix.plain().parameters()) == 2 * 2 * 3 * 8


def test_first_values_follow_the_seed() -> None:
    sizes = AttentionSizes(2, 4, 16)
    one, same, other = (make_prefix(sizes, 20, 0, seed=seed).vectors.detach() for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert float(one.std()) == pytest.approx(0.02, rel=0.05)
    made, again, others = (make_prefix(sizes, 4, 8, seed=seed).of_layer(1) for seed in (0, 0, 1))
    assert torch.equal(made, again)
    assert not torch.equal(made, others)


@pytest.mark.parametrize("mlp", [0, 5])
def test_only_the_prefix_and_the_head_train(mlp: int) -> None:
    engine = make_engine({PrefixTuning: {"tokens": 3, "mlp": mlp}}, Setup())
    before = {name: value.clone() for name, value in engine.backbone.state_dict().items()}
    engine.fit()
    moved = {
        name for name, value in engine.backbone.state_dict().items() if not torch.equal(value, before[name])
    }
    assert moved == {name for name in before if name.startswith(("prefix.", "head."))}
    assert ("prefix.vectors" in moved) == (mlp == 0)
    assert [name for name, _ in engine.backbone.blocks()] == ["embedding", "layer.0", "layer.1", "head"]


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ("lora", "each freezes what the other trains"),
        ("init_weights", "would stay random"),
        ("freeze", "freezes every block for the whole run"),
    ],
)
def test_what_it_cannot_stand_beside(other: str, words: str) -> None:
    techniques = [make(technique_class(name), {}) for name in ("prefix_tuning", other, "cross_entropy")]
    with pytest.raises(ConflictError, match=rf"prefix_tuning clashes with {other}: .*{words}"):
        build_plan(techniques, make_context())

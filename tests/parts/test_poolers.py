"""Every pooler: padding of either side and of any content means nothing, and the width stays."""

from typing import Any

import pytest
import torch
from torch import Tensor

from etude.core.technique import Technique
from etude.errors import ConflictError
from etude.parts import Pooler, make_part, parts
from etude.parts.placing import fresh
from etude.parts.tokens import POOLINGS
from etude.techniques import catalogue
from etude.testing.harness import Setup, make_engine, train
from etude.testing.technique_suite import difference
from etude.testing.tiny import TinyTransformer, tiny_examples, tiny_task

WIDTH = 8
SETTINGS: list[tuple[str, dict[str, Any]]] = [
    ("attention_pooling", {"width": WIDTH, "heads": 1, "hidden": 5}),
    ("attention_pooling", {"width": WIDTH, "heads": 4, "hidden": 5}),
    *(("layer_pooling", {"layers": 3, "tokens": tokens}) for tokens in POOLINGS),
    ("cnn_head", {"width": WIDTH, "windows": [1, 3, 5], "filters": 6, "dropout": 0.2}),
    *(
        ("rnn_head", {"width": WIDTH, "cell": cell, "hidden": 3, "tokens": tokens, "dropout": 0.2})
        for cell in ("lstm", "gru")
        for tokens in ("last", "mean", "max")
    ),
    *(
        ("transformer_head",
         {"width": WIDTH, "layers": 2, "heads": 2, "hidden": 12, "tokens": tokens, "dropout": 0.2})
        for tokens in POOLINGS
    ),
]  # fmt: skip
each = pytest.mark.parametrize(("name", "settings"), SETTINGS, ids=lambda value: str(value))
POOLERS: dict[str, type[Technique[Any]]] = {
    key: technique for key, technique in catalogue().items() if technique.facts.puts_pooler
}


def pooler_of(name: str, settings: dict[str, Any]) -> Pooler:
    kind = parts()[name]
    made = fresh(kind, 3, **settings).double().eval()
    assert isinstance(made, Pooler)
    with torch.no_grad():
        for value in made.parameters():  # none at its first value, which may be zero
            value += 0.3 * torch.randn(value.shape, generator=torch.Generator().manual_seed(1))
    return made


def texts() -> tuple[list[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([6, 1, 3, 4])
    layers = [torch.randn(4, 6, WIDTH, generator=generator, dtype=torch.float64) for _ in range(4)]
    return layers, (torch.arange(6) < lengths[:, None]).long()


@each
def test_padding_means_nothing(name: str, settings: dict[str, Any]) -> None:
    pooler, (layers, mask) = pooler_of(name, settings), texts()
    found = pooler(layers, mask)
    assert found.shape == (4, WIDTH)
    assert torch.isfinite(found).all()
    for row, length in enumerate(mask.sum(dim=1).tolist()):
        alone = [layer[row : row + 1, :length] for layer in layers]
        expected = pooler(alone, torch.ones(1, length))
        assert torch.allclose(found[row : row + 1], expected, rtol=0, atol=1e-12)
    # Whatever stands in the padding, how much of it there is, and on which side.
    for before, after in [(0, 3), (2, 0), (3, 2)]:
        odd = [torch.full((4, n, WIDTH), 1e3, dtype=torch.float64) for n in (before, after)]
        wide = [
            torch.cat([odd[0], layer.masked_fill(mask[:, :, None] == 0, -1e3), odd[1]], dim=1)
            for layer in layers
        ]
        wide_mask = torch.nn.functional.pad(mask, (before, after))
        assert torch.allclose(pooler(wide, wide_mask), found, rtol=0, atol=1e-12)


@each
def test_gradients_reach_every_weight_and_no_padding(name: str, settings: dict[str, Any]) -> None:
    pooler, (layers, mask) = pooler_of(name, settings), texts()
    for layer in layers:
        layer.requires_grad_()
    weights = torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    (pooler(layers, mask) * weights).sum().backward()
    for key, value in pooler.named_parameters():
        assert value.grad is not None, key
        assert value.grad.abs().sum() > 0, key
    last = layers[-1].grad
    assert last is not None
    assert (last[mask == 0] == 0).all()
    assert last[mask == 1].abs().sum() > 0


@each
def test_a_pooler_is_made_again_from_its_name_and_settings(name: str, settings: dict[str, Any]) -> None:
    first = pooler_of(name, settings)
    again = make_part(first.name, first.settings).double().eval()
    again.load_state_dict(first.state_dict())
    layers, mask = texts()
    assert torch.equal(again(layers, mask), first(layers, mask))
    assert isinstance(again, Pooler)


def test_all_poolers_are_here() -> None:
    made = {name for name, kind in parts().items() if issubclass(kind, Pooler)}
    assert made == {name for name, _ in SETTINGS} == set(POOLERS)
    assert len(made) >= 5


@pytest.mark.parametrize("key", POOLERS)
def test_the_technique_puts_its_pooler_between_network_and_head(key: str) -> None:
    engine = make_engine({POOLERS[key]: {}}, Setup())
    blocks = [name for name, _ in engine.backbone.blocks()]
    assert blocks == ["embedding", "layer.0", "layer.1", "pooler", "head"]
    assert isinstance(engine.backbone.pooler, Pooler)
    assert engine.backbone.pooler.name == key
    grouped = {id(value) for group in engine.groups for value in group.params}
    assert all(id(value) in grouped for value in engine.backbone.pooler.parameters())


@pytest.mark.parametrize("key", POOLERS)
def test_first_weights_are_the_seeds_own(key: str) -> None:
    def first(seed: int) -> dict[str, Tensor]:
        pooler = make_engine({POOLERS[key]: {}}, Setup(seed=seed)).backbone.pooler
        assert pooler is not None
        return dict(pooler.state_dict())

    torch.manual_seed(1)
    mine = first(0)
    torch.manual_seed(2)
    assert difference(mine, first(0)) == 0
    if key != "layer_pooling":  # which begins with equal layers
        assert difference(mine, first(1)) > 0


def test_making_a_pooler_draws_nothing_from_torch() -> None:
    before = torch.get_rng_state()
    for name, settings in SETTINGS:
        fresh(parts()[name], 0, **settings)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("key", ["attention_pooling", "layer_pooling"])
def test_means_at_first_go_together_with_the_linear_probe(key: str) -> None:
    probe = catalogue()["linear_probe"]
    backbone = TinyTransformer(3)
    inputs = tiny_examples("text", tiny_task("multiclass")).inputs(torch.arange(4).numpy())
    engine = make_engine({POOLERS[key]: {"layers": 1} if key == "layer_pooling" else {}, probe: {}}, Setup())
    assert torch.allclose(engine.backbone.features(inputs), backbone.features(inputs), atol=1e-6)
    engine.fit()


@pytest.mark.parametrize("key", ["cnn_head", "rnn_head", "transformer_head"])
def test_fresh_networks_leave_nothing_to_probe(key: str) -> None:
    with pytest.raises(ConflictError, match=f"{key} clashes with linear_probe: the probe would learn from"):
        make_engine({POOLERS[key]: {}, catalogue()["linear_probe"]: {}}, Setup())


def test_two_poolers_are_refused() -> None:
    with pytest.raises(ConflictError, match="cnn_head clashes with rnn_head: a backbone has one pooling"):
        make_engine({POOLERS["cnn_head"]: {}, POOLERS["rnn_head"]: {}}, Setup())


def test_tables_have_no_tokens_to_pool() -> None:
    with pytest.raises(ConflictError, match="cnn_head needs a backbone with 'parts' and TinyMLP has none"):
        make_engine({POOLERS["cnn_head"]: {}}, Setup(modality="table"))


def test_a_pooler_over_mixed_texts_trains() -> None:
    recipe = {POOLERS["rnn_head"]: {}, catalogue()["hidden_mixup"]: {}}
    assert all(torch.isfinite(value).all() for value in train(recipe, Setup(max_steps=2)).values())

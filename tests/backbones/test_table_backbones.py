"""The networks over tables compute what their authors' code computes, and are saved and opened again."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from etude.backbones.dropout import DropoutKeys
from etude.backbones.tabular.activations import Activation
from etude.backbones.tabular.embeddings import (
    CategoryEmbedding,
    LinearEmbedding,
    PeriodicEmbedding,
    PiecewiseLinearEmbedding,
    quantile_bins,
)
from etude.backbones.tabular.layers import Attention, RowBatchNorm
from etude.backbones.tabular.model import TableBackbone
from etude.backbones.tabular.opening import load_saved_table, make_table_backbone
from etude.config.explain import validated
from etude.config.tables import TableBackboneConfig
from etude.core.task import Multiclass, Multilabel
from etude.errors import ConfigError, RunError

MODELS = ("mlp", "resnet", "ft_transformer", "tab_transformer")
N, K, CARDINALITIES = 12, 5, (3, 7)
TASK = Multiclass(["a", "b", "c"])


def inputs_of(n: int = N, k: int = K, cardinalities: tuple[int, ...] = CARDINALITIES) -> dict[str, Tensor]:
    rng = np.random.default_rng(0)
    codes = np.stack([rng.integers(0, c, n) for c in cardinalities], axis=1) if cardinalities else None
    found = {"numbers": torch.from_numpy(rng.standard_normal((n, k)).astype(np.float32))} if k else {}
    return found if codes is None else found | {"categories": torch.from_numpy(codes)}


def backbone_of(
    model: str, k: int = K, cardinalities: tuple[int, ...] = CARDINALITIES, seed: int = 0, **settings: Any
) -> TableBackbone:
    small = {"n_blocks": 2, "d_block": 16, "n_heads": 4, "d_embedding": 4} | settings
    config = validated(TableBackboneConfig, {"model": model, **small})
    numbers = inputs_of(200, k, ())["numbers"].numpy() if k else np.zeros((200, 0), dtype=np.float32)
    return make_table_backbone(config, TASK, seed=seed, numbers=numbers, cardinalities=cardinalities)


def set_categories(ours: CategoryEmbedding, theirs: Any) -> None:
    with torch.no_grad():
        ours.table.weight.copy_(torch.cat([m.weight for m in theirs.embeddings]))
        if ours.bias is not None:
            ours.bias.copy_(theirs.bias)


def test_ft_transformer_is_the_authors() -> None:
    rtdl = pytest.importorskip("rtdl_revisiting_models")
    ours = backbone_of("ft_transformer", n_blocks=3, dropout=0.0, attention_dropout=0.0)
    theirs = rtdl.FTTransformer(
        n_cont_features=K, cat_cardinalities=list(CARDINALITIES), d_out=3, n_blocks=3, d_block=16,
        attention_n_heads=4, attention_dropout=0.0, ffn_d_hidden_multiplier=4 / 3, ffn_dropout=0.0,
        residual_dropout=0.0,
    )  # fmt: skip
    network: Any = ours.network
    with torch.no_grad():
        network.cls.copy_(theirs.cls_embedding.weight)
        network.numbers.weight.copy_(theirs.cont_embeddings.weight)
        network.numbers.bias.copy_(theirs.cont_embeddings.bias)
        set_categories(network.categories, theirs.cat_embeddings)
        for block, other in zip(network.blocks, theirs.backbone.blocks, strict=True):
            attention = other["attention"]
            for part, name in zip(("weight", "bias"), ("weight", "bias"), strict=True):
                joined = torch.cat([getattr(getattr(attention, w), name) for w in ("W_q", "W_k", "W_v")])
                getattr(block.attention.in_proj, part).copy_(joined)
            block.attention.out_proj.load_state_dict(attention.W_out.state_dict())
            if "attention_normalization" in other:
                nn.init.normal_(other["attention_normalization"].weight)
                block.attention_norm.load_state_dict(other["attention_normalization"].state_dict())
            block.feed_forward_norm.load_state_dict(other["ffn_normalization"].state_dict())
            block.feed_forward.linear1.load_state_dict(other["ffn"].linear1.state_dict())
            block.feed_forward.linear2.load_state_dict(other["ffn"].linear2.state_dict())
        network.norm.load_state_dict(theirs.backbone.output.normalization.state_dict())
        ours.head.out.load_state_dict(theirs.backbone.output.linear.state_dict())  # type: ignore[union-attr]
    inputs = inputs_of()
    wanted = theirs.eval()(inputs["numbers"], inputs["categories"])
    assert torch.allclose(ours.eval()(inputs).logits, wanted, atol=1e-5)
    ours.keep_hidden = True  # all tokens of the last block, not [CLS] alone
    assert torch.allclose(ours(inputs).logits, wanted, atol=1e-5)


def test_resnet_is_the_authors() -> None:
    rtdl = pytest.importorskip("rtdl_revisiting_models")
    ours = backbone_of("resnet", cardinalities=(), dropout=0.0)
    theirs = rtdl.ResNet(
        d_in=K, d_out=3, n_blocks=2, d_block=16, d_hidden=None, d_hidden_multiplier=2.0, dropout1=0.0,
        dropout2=0.0,
    )  # fmt: skip
    network: Any = ours.network
    network.first.load_state_dict(theirs.input_projection.state_dict())
    for block, other in zip(network.blocks, theirs.blocks, strict=True):
        block.norm.load_state_dict(other.normalization.state_dict())
        block.feed_forward.linear1.load_state_dict(other.linear1.state_dict())
        block.feed_forward.linear2.load_state_dict(other.linear2.state_dict())
    network.norm.load_state_dict(theirs.output.normalization.state_dict())
    ours.head.out.load_state_dict(theirs.output.linear.state_dict())  # type: ignore[union-attr]
    inputs = inputs_of()
    for ours_, theirs_ in ((ours.train(), theirs.train()), (ours.eval(), theirs.eval())):
        assert torch.allclose(ours_(inputs).logits, theirs_(inputs["numbers"]), atol=1e-5)


def test_mlp_is_the_authors() -> None:
    rtdl = pytest.importorskip("rtdl_revisiting_models")
    ours = backbone_of("mlp", cardinalities=(), dropout=0.0)
    theirs = rtdl.MLP(d_in=K, d_out=3, n_blocks=2, d_block=16, dropout=0.0)
    network: Any = ours.network
    for block, other in zip(network.blocks, theirs.blocks, strict=True):
        block.linear.load_state_dict(other.linear.state_dict())
    ours.head.out.load_state_dict(theirs.output.state_dict())  # type: ignore[union-attr]
    inputs = inputs_of()
    assert torch.allclose(ours(inputs).logits, theirs(inputs["numbers"]), atol=1e-6)


def test_embeddings_of_numbers_are_the_authors() -> None:
    rtdl = pytest.importorskip("rtdl_num_embeddings")
    x = inputs_of(50)["numbers"]
    theirs = rtdl.PeriodicEmbeddings(K, 6, n_frequencies=8, frequency_init_scale=0.5, lite=False)
    ours = PeriodicEmbedding(K, 6, 8, 0.5)
    with torch.no_grad():
        ours.frequencies.copy_(theirs.periodic.weight)
        ours.linear.weight.copy_(theirs.linear.weight)
        ours.linear.bias.copy_(theirs.linear.bias)
    assert torch.allclose(ours(x), theirs(x), atol=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bins = rtdl.compute_bins(x, n_bins=7)
        encoding = rtdl.PiecewiseLinearEncoding(bins)
    edges = quantile_bins(x.numpy(), 7)
    for one, other in zip(edges, bins, strict=True):
        assert np.allclose(one, other.numpy(), atol=1e-5)
    piecewise = PiecewiseLinearEmbedding(K, 6, 7)
    piecewise.set_bins(edges)
    beyond = torch.cat([x, 5 * x])
    assert torch.allclose(piecewise.encode(beyond).flatten(1), encoding(beyond), atol=1e-3)


def test_columns_with_few_values_have_fewer_bins() -> None:
    numbers = np.stack([np.arange(101) % 2, np.arange(101)], axis=1).astype(np.float32)
    edges = quantile_bins(numbers, 10)
    assert [len(e) for e in edges] == [2, 11]
    embedding = PiecewiseLinearEmbedding(2, 3, 10)
    embedding.set_bins(edges)
    encoded = embedding.encode(torch.tensor([[1.0, 100.0], [0.0, 0.0], [0.5, 10.0]]))
    assert encoded[0].sum(dim=1).tolist() == [1.0, 10.0]
    assert encoded[1].sum().item() == 0.0
    assert encoded[2].sum(dim=1).tolist() == pytest.approx([0.5, 1.0])


def test_attention_is_torchs() -> None:
    ours = Attention(16, 4, 0.0, DropoutKeys()).eval()
    theirs = nn.MultiheadAttention(16, 4, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(ours.in_proj.weight)
        theirs.in_proj_bias.copy_(ours.in_proj.bias)
        theirs.out_proj.load_state_dict(ours.out_proj.state_dict())
    x = torch.randn(3, 5, 16, generator=torch.Generator().manual_seed(0))
    wanted = theirs(x, x, x, need_weights=False)[0]
    assert torch.allclose(ours(x), wanted, atol=1e-6)
    assert torch.allclose(ours(x, 2), wanted[:, :2], atol=1e-6)
    ours.train().dropout.p = 1e-9  # the way with dropout, which drops nothing here
    assert torch.allclose(ours(x), wanted, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("relu", [2.0, 0.0]),
        ("gelu", [F.gelu(torch.tensor(2.0)).item(), F.gelu(torch.tensor(-1.0)).item()]),
        ("reglu", [-0.0]),
        ("geglu", [2.0 * F.gelu(torch.tensor(-1.0)).item()]),
    ],
)
def test_activations(name: str, wanted: list[float]) -> None:
    assert Activation(name)(torch.tensor([2.0, -1.0])).tolist() == pytest.approx(wanted)


def test_tab_transformer_collapses_to_an_mlp_without_categories() -> None:
    backbone = backbone_of("tab_transformer", cardinalities=(), dropout=0.0)
    inputs = inputs_of(cardinalities=())
    network: Any = backbone.network
    first, second = network.mlp
    x = F.layer_norm(inputs["numbers"], (K,))
    hidden = F.gelu(second.linear(F.gelu(first.linear(x))))
    assert first.linear.out_features == 4 * K
    assert torch.allclose(backbone(inputs).logits, backbone.head.out(hidden), atol=1e-6)  # type: ignore[union-attr]
    assert [name for name, _ in backbone.blocks()] == ["mlp", "head"]


def test_tab_transformer_puts_the_columns_name_in_front() -> None:
    backbone = backbone_of("tab_transformer", k=0)
    network: Any = backbone.network
    tokens = backbone.embed(inputs_of(k=0))
    assert tokens.shape == (N, 2, 16)
    assert torch.equal(tokens[:, :, :2], network.columns.expand(N, -1, -1))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("embedding", ["none", "linear", "periodic", "piecewise_linear"])
@pytest.mark.parametrize(("k", "cardinalities"), [(K, CARDINALITIES), (K, ()), (0, CARDINALITIES)])
def test_every_network_on_every_kind_of_table(
    model: str, embedding: str, k: int, cardinalities: tuple[int, ...], tmp_path: Path
) -> None:
    if model == "ft_transformer" and embedding == "none":
        with pytest.raises(ConfigError, match="makes a token of each number and numeric_embedding is"):
            backbone_of(model, numeric_embedding=embedding)
        return
    backbone = backbone_of(model, k, cardinalities, numeric_embedding=embedding)
    inputs = inputs_of(k=k, cardinalities=cardinalities)
    logits = backbone(inputs).logits
    assert logits.shape == (N, 3)
    assert torch.isfinite(logits).all()
    logits.sum().backward()
    # The blocks hold every parameter once, and each of them is used.
    held = [id(p) for _, module in backbone.blocks() for p in module.parameters()]
    assert sorted(held) == sorted(id(p) for p in backbone.parameters())
    idle = [name for name, p in backbone.named_parameters() if p.grad is None]
    assert idle == []
    backbone.save(tmp_path / "model", {"labels": list(TASK.labels), "techniques": ["adamw"]})
    again = load_saved_table(tmp_path / "model")
    assert torch.equal(again(inputs).logits, backbone.eval()(inputs).logits)
    assert again.trained_with == {"adamw"}
    assert again.fingerprint == backbone.fingerprint


@pytest.mark.parametrize("model", MODELS)
def test_weights_depend_on_the_seed_alone(model: str) -> None:
    one = backbone_of(model, seed=3).state_dict()
    torch.rand(7)
    other, third = backbone_of(model, seed=3).state_dict(), backbone_of(model, seed=4).state_dict()
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert not all(torch.equal(value, third[name]) for name, value in one.items())


@pytest.mark.parametrize("model", MODELS)
def test_a_replayed_pass_draws_the_same_masks(model: str) -> None:
    backbone = backbone_of(model, dropout=0.3, residual_dropout=0.2, head_dropout=0.5)
    backbone.key_randomness(1)
    replay = backbone.replay_randomness()
    one = backbone(inputs_of()).logits
    replay()
    assert torch.equal(backbone(inputs_of()).logits, one)
    backbone.key_randomness(2)
    assert not torch.equal(backbone(inputs_of()).logits, one)


@pytest.mark.parametrize("model", ["ft_transformer", "tab_transformer"])
def test_pre_and_post_norm_differ(model: str) -> None:
    pre, post = backbone_of(model, norm="pre"), backbone_of(model, norm="post")
    assert not torch.allclose(pre.eval()(inputs_of()).logits, post.eval()(inputs_of()).logits)
    last = post.network.layers(post.embed(inputs_of()), whole=True)[-1]
    assert torch.allclose(last.mean(-1), torch.zeros(()), atol=1e-5)  # a norm is the last thing there


def test_an_unseen_category_adds_nothing_at_first() -> None:
    embedding = CategoryEmbedding([3, 4], 5, bias=False)
    assert torch.equal(embedding(torch.tensor([[0, 0]])), torch.zeros(1, 2, 5))
    assert embedding(torch.tensor([[2, 3]])).abs().sum() > 0


def test_batch_norm_takes_a_batch_of_one_row() -> None:
    norm = RowBatchNorm(3)
    row = torch.ones(1, 3)
    assert torch.equal(norm(row), norm.eval()(row))
    backbone_of("resnet").train()(inputs_of(1)).logits.sum().backward()


def test_first_weights_come_from_a_saved_model(tmp_path: Path) -> None:
    trained = backbone_of("mlp", seed=5)
    trained.save(tmp_path / "model", {"labels": ["x", "y", "z"]})
    fresh = backbone_of("mlp", seed=0, path=str(tmp_path))
    assert all(
        torch.equal(a, b)
        for a, b in zip(fresh.network.parameters(), trained.network.parameters(), strict=True)
    )
    assert not torch.equal(fresh.head.out.weight, trained.head.out.weight)  # type: ignore[union-attr]
    with pytest.raises(
        ConfigError, match=r"holds another network: its .* has the shape .* is needed; use the same"
    ):
        backbone_of("mlp", cardinalities=(3, 8), path=str(tmp_path))
    with pytest.raises(ConfigError, match="holds no saved model"):
        backbone_of("mlp", path=str(tmp_path / "nowhere"))


def test_damaged_models_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    with pytest.raises(RunError, match=r"holds no saved model \(no config.json\)"):
        load_saved_table(folder)
    backbone_of("mlp").save(folder, {"labels": ["x"]})
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-50])
    with pytest.raises(RunError, match=r"cannot be opened: .*; train it again"):
        load_saved_table(folder)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model": "ft_transformer", "d_block": 30}, "n_heads = 8 does not divide d_block = 30"),
        ({"model": "mlp", "norm": "post"}, 'norm = "post" is for ft_transformer and tab_transformer'),
        ({"model": "tabnet"}, "model"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        validated(TableBackboneConfig, settings)


def test_capabilities_follow_the_network() -> None:
    assert {"columns", "mixable", "embed", "parts", "linear_head"} <= backbone_of(
        "ft_transformer"
    ).capabilities
    assert "parts" not in backbone_of("mlp").capabilities
    assert "linear_head" not in backbone_of("mlp", head="mlp").capabilities
    assert backbone_of("tab_transformer").n_numbers == K
    assert backbone_of("tab_transformer", cardinalities=()).n_numbers == 0


def test_the_linear_embedding_is_the_papers() -> None:
    embedding = LinearEmbedding(2, 3, activation=False)
    x = torch.tensor([[2.0, -1.0]])
    assert torch.allclose(embedding(x)[0, 1], -embedding.weight[1] + embedding.bias[1])


def test_many_labels_make_no_difference() -> None:
    config = TableBackboneConfig(n_blocks=1, d_block=8)
    task = Multilabel(["a", "b", "c", "d"])
    numbers = inputs_of()["numbers"].numpy()
    backbone = make_table_backbone(config, task, seed=0, numbers=numbers, cardinalities=())
    assert backbone(inputs_of(cardinalities=())).logits.shape == (N, 4)

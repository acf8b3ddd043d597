"""Text backbones of nine architectures: blocks, the cut at the embedding, pooling, padding, heads."""

from collections.abc import Callable

import pytest
import torch
from tiny_checkpoints import ARCHITECTURES, DECODERS, ENCODERS
from torch import Tensor

from etude.backbones.text import TextBackbone, load_text_backbone, load_tokenizer
from etude.config.run import BackboneConfig
from etude.core.groups import describe_parameters
from etude.core.task import Task
from etude.errors import ConfigError

Make = Callable[..., BackboneConfig]
TEXTS = ["the card was lost please send a new one", "where is my money", "help"]


def tokens(config: BackboneConfig, texts: list[str] = TEXTS) -> dict[str, Tensor]:
    return dict(load_tokenizer(config)(texts, padding=True, return_tensors="pt"))


@pytest.mark.parametrize("pooling", ["native", "auto", "max"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_blocks_hold_every_parameter_once(architecture: str, pooling: str, config: Make, task: Task) -> None:
    backbone = load_text_backbone(config(architecture, pooling=pooling), task, seed=0)
    assert [name for name, _ in backbone.blocks()] == ["embeddings", "layer.0", "layer.1", "layer.2", "head"]
    described = describe_parameters(backbone)
    assert len(described) == len(list(backbone.parameters()))
    by_block = {p.name: p.block for p in described}
    assert all(by_block[n] == 0 for n in by_block if "word_embed" in n or "embed_tokens" in n or "wte" in n)
    assert all(by_block[n] == 4 for n in by_block if n.startswith("head."))
    assert backbone.blocks()[-1][1] is backbone.head


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_features_equal_features_from_embedding_bit_for_bit(
    architecture: str, config: Make, task: Task
) -> None:
    chosen = config(architecture)
    backbone = load_text_backbone(chosen, task, seed=0).eval()
    inputs = tokens(chosen)
    embedding = backbone.embed(inputs)
    assert embedding.shape[:2] == inputs["input_ids"].shape
    assert torch.equal(backbone.features(inputs), backbone.features_from(embedding, inputs))
    plain = backbone.network(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
    ours = backbone.features_from(embedding, inputs)
    kept = plain.last_hidden_state
    expected = kept[torch.arange(3), inputs["attention_mask"].sum(1) - 1] if backbone.decoder else kept[:, 0]
    assert torch.allclose(ours, expected, atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "max", "last"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_padding_changes_nothing(architecture: str, pooling: str, config: Make, task: Task) -> None:
    chosen = config(architecture, pooling=pooling)
    backbone = load_text_backbone(chosen, task, seed=0).eval()
    together = backbone(tokens(chosen)).logits
    for row, text in enumerate(TEXTS):
        alone = backbone(tokens(chosen, [text])).logits[0]
        assert torch.allclose(together[row], alone, atol=2e-5)


@pytest.mark.parametrize("pooling", ["native", "last", "mean"])
@pytest.mark.parametrize("architecture", DECODERS)
def test_decoders_may_be_padded_on_either_side(
    architecture: str, pooling: str, config: Make, task: Task
) -> None:
    chosen = config(architecture, pooling=pooling)
    backbone = load_text_backbone(chosen, task, seed=0).eval()
    right = tokens(chosen)
    left = {name: value.clone() for name, value in right.items()}
    for row, length in enumerate(right["attention_mask"].sum(1).tolist()):
        for name in ("input_ids", "attention_mask"):
            left[name][row] = right[name][row].roll(right[name].shape[1] - length)
    assert not torch.equal(left["attention_mask"], right["attention_mask"])
    alone = torch.cat([backbone(tokens(chosen, [text])).logits for text in TEXTS])
    assert torch.allclose(backbone(right).logits, alone, atol=1e-5)
    assert torch.allclose(backbone(left).logits, alone, atol=1e-5)


@pytest.mark.parametrize("architecture", DECODERS)
def test_decoders_get_a_padding_token_that_the_text_may_hold(
    architecture: str, config: Make, task: Task
) -> None:
    chosen = config(architecture, pooling="last")
    backbone = load_text_backbone(chosen, task, seed=0).eval()
    assert backbone.tokenizer.pad_token == "</s>"  # noqa: S105 - no password
    assert backbone.network.config.pad_token_id == backbone.pad_token_id == 1
    assert "tokens" not in backbone.capabilities
    assert "tokens" in TextBackbone.capabilities
    inputs = {"input_ids": torch.tensor([[5, 6, 1]]), "attention_mask": torch.ones(1, 3, dtype=torch.long)}
    hidden = backbone.network(input_ids=inputs["input_ids"]).last_hidden_state
    assert torch.allclose(backbone.features(inputs), hidden[:, 2], atol=1e-6)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_same_key_gives_the_same_draws(architecture: str, config: Make, task: Task) -> None:
    chosen = config(architecture, dropout=0.3)
    backbone = load_text_backbone(chosen, task, seed=0).train()
    inputs = tokens(chosen)

    def gradient(key: int, noise: int) -> Tensor:
        torch.manual_seed(noise)
        backbone.zero_grad()
        backbone.key_randomness(key)
        backbone(inputs).logits.square().sum().backward()
        return torch.cat([p.grad.flatten() for p in backbone.parameters() if p.grad is not None])

    assert torch.equal(gradient(5, noise=1), gradient(5, noise=2))
    assert not torch.equal(gradient(5, noise=1), gradient(6, noise=1))
    backbone.eval()
    assert torch.equal(backbone(inputs).logits, backbone(inputs).logits)


def test_the_head_depends_on_the_seed_alone(config: Make, task: Task) -> None:
    heads = []
    for seed, noise, architecture in ((3, 1, "bert"), (3, 2, "llama"), (4, 1, "bert")):
        torch.manual_seed(noise)
        before = torch.get_rng_state()
        backbone = load_text_backbone(config(architecture, pooling="mean", head="mlp"), task, seed=seed)
        assert torch.equal(torch.get_rng_state(), before)
        heads.append(torch.cat([value.flatten() for value in backbone.head.state_dict().values()]))
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])
    assert float(heads[0].abs().max()) < 0.1


@pytest.mark.parametrize("architecture", ENCODERS)
def test_native_draws_what_the_checkpoint_lacks_by_the_seed(
    architecture: str, config: Make, task: Task
) -> None:
    states = []
    for seed, noise in ((3, 1), (3, 2), (4, 1)):
        torch.manual_seed(noise)
        backbone = load_text_backbone(config(architecture, pooling="native"), task, seed=seed)
        states.append(backbone.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert any(not torch.equal(states[0][name], states[2][name]) for name in states[0])


def test_layers_are_cut(config: Make, task: Task) -> None:
    for architecture in ARCHITECTURES:
        chosen = config(architecture, layers=2)
        backbone = load_text_backbone(chosen, task, seed=0).eval()
        assert [name for name, _ in backbone.blocks()] == ["embeddings", "layer.0", "layer.1", "head"]
        assert backbone(tokens(chosen)).logits.shape == (3, 3)
    with pytest.raises(ConfigError, match=r"backbone.layers is 9 and the network has 3 layers"):
        load_text_backbone(config("bert", layers=9), task, seed=0)


def test_dropout_sets_every_rate(config: Make, task: Task) -> None:
    for architecture in ARCHITECTURES:
        backbone = load_text_backbone(config(architecture, dropout=0.0, head_dropout=0.0), task, seed=0)
        inputs = tokens(config(architecture))
        backbone.train().key_randomness(1)
        assert torch.equal(backbone(inputs).logits, backbone.eval()(inputs).logits), architecture


def test_refusals_name_the_way_out(config: Make, task: Task) -> None:
    with pytest.raises(ConfigError, match=r"max_length is 64 and .* has positions for 40 tokens; set"):
        load_text_backbone(config("bert", max_length=64), task, seed=0)
    with pytest.raises(ConfigError, match=r"pooling = 'native' brings the architecture's own head"):
        load_text_backbone(config("bert", pooling="native", head="mlp"), task, seed=0)

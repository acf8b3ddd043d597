"""Prompts and prefixes on real architectures: padding, saving, positions, and the fast path."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_checkpoints import ARCHITECTURES, DECODERS
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModelForSequenceClassification

from etude.backbones.prefixes import attention_sizes
from etude.backbones.text import TextBackbone, load_saved, load_text_backbone
from etude.config.run import BackboneConfig
from etude.core.groups import describe_parameters
from etude.core.task import Task
from etude.errors import ConflictError
from etude.parts import make_part
from etude.parts.prefix import SLOT, AttentionSizes, Prefix, PrefixSlot

Make = Callable[..., BackboneConfig]
TEXTS = ["the card was lost please", "where is my money", "help"]
WITH_PREFIX = [name for name in ARCHITECTURES if name != "deberta-v2"]  # whose attention is its own
CASES = [("prompt", name) for name in ARCHITECTURES] + [("prefix", name) for name in WITH_PREFIX]


def put(backbone: TextBackbone, kind: str, **more: Any) -> TextBackbone:
    """Put a prompt of 4 tokens or a prefix in front, with weights that matter."""
    if kind == "prompt":
        width = backbone.embed({"input_ids": torch.zeros(1, 1, dtype=torch.long)}).shape[2]
        part = make_part("prompt", {"n_tokens": 4, "width": width})
    else:
        part = make_part(kind, {"n_tokens": 4, **backbone.attention_sizes()._asdict(), **more})
    with torch.no_grad():
        for value in part.parameters():
            value.normal_(generator=torch.Generator().manual_seed(value.numel()))
    if kind == "prompt":
        backbone.put_prompt(part)
    else:
        backbone.put_prefix(part)
    return backbone


def tokens(backbone: TextBackbone, side: str = "right") -> dict[str, Tensor]:
    return dict(backbone.tokenizer(TEXTS, padding=True, padding_side=side, return_tensors="pt"))


def logits(backbone: TextBackbone, inputs: dict[str, Tensor] | None = None) -> Tensor:
    with torch.no_grad():
        found: Tensor = backbone.eval()(tokens(backbone) if inputs is None else inputs).logits
    return found


@pytest.mark.parametrize(("kind", "architecture"), CASES)
def test_they_act_and_padding_means_nothing(kind: str, architecture: str, config: Make, task: Task) -> None:
    backbone = load_text_backbone(config(architecture, pooling="mean"), task, seed=0)
    before = logits(backbone)
    found = logits(put(backbone, kind))
    assert not torch.allclose(found, before, atol=1e-3)
    for row, text in enumerate(TEXTS):
        alone = logits(backbone, dict(backbone.tokenizer([text], return_tensors="pt")))
        torch.testing.assert_close(found[row], alone[0], atol=1e-5, rtol=1e-4)
    if architecture in DECODERS:
        torch.testing.assert_close(logits(backbone, tokens(backbone, "left")), found, atol=1e-5, rtol=1e-4)
    described = describe_parameters(backbone)
    assert len(described) == len(list(backbone.parameters()))
    assert {p.block for p in described if p.name.startswith(f"{kind}.")} == {0}


@pytest.mark.parametrize(
    ("kind", "more", "architecture", "pooling"),
    [
        ("prompt", {}, "bert", "native"),
        ("prompt", {}, "gpt2", "last"),
        ("prefix", {}, "roberta", "native"),
        ("prefix", {}, "llama", "last"),
        ("reparametrised_prefix", {"hidden": 5}, "modernbert", "mean"),
    ],
)
def test_every_way_of_opening_predicts_the_same(
    kind: str,
    more: dict[str, int],
    architecture: str,
    pooling: str,
    config: Make,
    task: Task,
    tmp_path: Path,
) -> None:
    backbone = put(load_text_backbone(config(architecture, pooling=pooling), task, seed=0), kind, **more)
    expected = logits(backbone)
    folder = tmp_path / "model"
    backbone.save(folder, {})
    saved = load_saved(folder)
    torch.testing.assert_close(logits(saved), expected, atol=1e-6, rtol=1e-5)
    model: Any = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        found = model(**backbone.tokenizer(TEXTS, padding=True, return_tensors="pt")).logits
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    described = model.config.prompt or model.config.prefix
    assert described["name"] == ("prompt" if kind == "prompt" else "prefix")
    # The network was trained behind them, and goes on so under a new head.
    again = load_text_backbone(BackboneConfig(path=str(folder), max_length=32), task, seed=0).eval()
    with torch.no_grad():
        torch.testing.assert_close(again.features(tokens(again)), saved.features(tokens(saved)))


def test_types_of_tokens_stay_with_their_tokens(config: Make, task: Task) -> None:
    """A BERT that sees the prompt as words of the first type gives the same features."""
    backbone = put(load_text_backbone(config("bert", pooling="mean"), task, seed=0), "prompt").eval()
    inputs = tokens(backbone) | {"token_type_ids": torch.tensor([[0, 0, 1, 1, 1]] * 3)}
    assert backbone.prompt is not None
    with torch.no_grad():
        embedding, mask = backbone.prompt(backbone.embed(inputs), inputs["attention_mask"])
        types = F.pad(inputs["token_type_ids"], (4, 0))
        plain = backbone.network(inputs_embeds=embedding, attention_mask=mask, token_type_ids=types)
        backbone.keep_hidden = True
        torch.testing.assert_close(backbone(inputs).hidden[-1], plain.last_hidden_state[:, 4:])


def test_sizes_of_attention_are_found_by_trying(config: Make, task: Task) -> None:
    def sizes(architecture: str) -> AttentionSizes:
        return load_text_backbone(config(architecture), task, seed=0).attention_sizes()

    assert sizes("bert") == AttentionSizes(3, 2, 8)
    assert sizes("llama") == AttentionSizes(3, 1, 8)  # one head of keys for two of queries
    backbone = load_text_backbone(config("bert"), task, seed=0).train()
    backbone.network.encoder.layer[1].eval()
    backbone.attention_sizes()
    assert backbone.network.training
    assert all(getattr(module, SLOT, None) is None for module in backbone.modules())


def test_where_attention_cannot_be_reached(config: Make, task: Task) -> None:
    deberta = load_text_backbone(config("deberta-v2"), task, seed=0)
    assert "prefix" not in deberta.capabilities
    assert "prompt" in deberta.capabilities
    backbone = load_text_backbone(config("bert"), task, seed=0)
    backbone.network.set_attn_implementation("eager")
    with pytest.raises(
        ConflictError,
        match=r"needs keys of one size in every layer and BertModel has 3 layers, 0 of them with keys that "
        r"can be reached, of sizes \[\]; use prompt_tuning or lora",
    ):
        attention_sizes(backbone.network, decoder=False)


def test_the_positions_must_suffice(config: Make, task: Task) -> None:
    fits = load_text_backbone(config("bert", max_length=36), task, seed=0)
    put(fits, "prompt")
    long = load_text_backbone(config("bert", max_length=37), task, seed=0)
    with pytest.raises(
        ConflictError,
        match=r"a prompt of 4 tokens and texts of 37 are more than the 40 positions of BertModel; lower "
        "backbone.max_length or take a shorter prompt",
    ):
        put(long, "prompt")


@pytest.mark.parametrize("kind", ["prompt", "prefix"])
def test_under_bf16_the_gradient_is_the_same_to_rounding(kind: str, config: Make, task: Task) -> None:
    """The fast path takes a prompt, and steps aside for a prefix."""
    gradients = []
    for bf16 in (False, True):
        backbone = put(load_text_backbone(config("bert", pooling="mean"), task, seed=0), kind).eval()
        for value in backbone.network.parameters():
            value.requires_grad_(False)
        backbone.key_randomness(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = backbone(tokens(backbone)).logits.square().sum()
        (part,) = backbone.in_front
        gradients.append(torch.autograd.grad(loss, next(part.parameters()))[0].flatten())
    whole, rounded = gradients
    assert F.cosine_similarity(whole, rounded, dim=0) > 0.99


def test_a_copy_has_slots_of_its_own(config: Make, task: Task) -> None:
    backbone = put(load_text_backbone(config("bert"), task, seed=0), "prefix")
    other = copy.deepcopy(backbone)
    assert isinstance(other.prefix, Prefix)
    with torch.no_grad():
        other.prefix.vectors.zero_()
    slot = other.network.encoder.layer[2].attention.self.prefix_slot
    assert isinstance(slot, PrefixSlot)
    assert slot.prefix is other.prefix
    assert slot.layer == 2
    assert not torch.allclose(logits(other), logits(backbone), atol=1e-3)

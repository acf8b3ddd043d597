"""Prompt tuning: vectors in front of a text that nothing behind the network sees, and nothing else trains."""

import runpy
from pathlib import Path

import pytest
import torch
from tiny_contexts import make_context
from torch import Tensor

from etude.core.backbone import Backbone
from etude.core.plan import build_plan
from etude.core.rng import torch_generator
from etude.errors import ConflictError
from etude.parts.prompt import Prompt
from etude.techniques import technique_class
from etude.techniques.efficient.prompt_tuning import (
    PromptTuning,
    PromptTuningConfig,
    add_prompt,
    draw_tokens,
)
from etude.testing.harness import Recipe, Setup, make, make_engine
from etude.testing.tiny import TinyTransformer

INPUTS = {
    "input_ids": torch.tensor([[3, 4, 5, 6], [7, 8, 0, 0]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]),
}


def prompted(**settings: object) -> TinyTransformer:
    backbone = TinyTransformer(3)
    add_prompt(backbone, PromptTuningConfig.model_validate({"tokens": 4, **settings}), seed=4)
    return backbone.eval()


def vectors(backbone: Backbone) -> Tensor:
    assert isinstance(backbone.prompt, Prompt)
    return backbone.prompt.vectors.detach()


def test_first_values_are_embeddings_of_ordinary_tokens() -> None:
    backbone = prompted()
    ids = draw_tokens(4, 50, (0, 1), torch_generator(4, "prompt_tuning"))
    assert len(set(ids.tolist()) - {0, 1}) == 4
    assert torch.equal(vectors(backbone), backbone.embedding.weight[ids])


def test_first_values_that_are_drawn_are_small_and_follow_the_seed() -> None:
    wide = Prompt(n_tokens=50, width=40)
    wide.draw(0)
    drawn = wide.vectors.detach()
    assert float(drawn.std()) == pytest.approx(0.02, rel=0.05)
    assert float(drawn.mean()) == pytest.approx(0.0, abs=0.002)
    assert torch.equal(vectors(prompted(start="normal")), vectors(prompted(start="normal")))
    config = PromptTuningConfig(tokens=4, start="normal")
    other = add_prompt(TinyTransformer(3), config, seed=5)
    assert not torch.equal(vectors(other), vectors(prompted(start="normal")))


def test_the_network_reads_the_prompt_as_if_it_were_words() -> None:
    """With words' own embeddings, the text's features are those of the longer text."""
    backbone, plain = prompted(), TinyTransformer(3).eval()
    ids = draw_tokens(4, 50, (0, 1), torch_generator(4, "prompt_tuning")).expand(2, 4)
    longer = {
        "input_ids": torch.cat([ids, INPUTS["input_ids"]], dim=1),
        "attention_mask": torch.cat([torch.ones_like(ids), INPUTS["attention_mask"]], dim=1),
    }
    backbone.keep_hidden = plain.keep_hidden = True
    for short, long in zip(backbone(INPUTS).hidden, plain(longer).hidden, strict=True):
        assert short.shape == (2, 4, 8)
        torch.testing.assert_close(short, long[:, 4:])
    torch.testing.assert_close(backbone(INPUTS).features[1], plain(longer).hidden[-1][1, 4:6].mean(0))


def test_padding_on_either_side_means_nothing() -> None:
    backbone = prompted()
    alone = backbone({name: value[1:, :2] for name, value in INPUTS.items()}).logits[0]
    turned = backbone({name: value.roll(2, dims=1) for name, value in INPUTS.items()}).logits[1]
    torch.testing.assert_close(backbone(INPUTS).logits[1], alone)
    torch.testing.assert_close(turned, alone)


def test_only_the_prompt_and_the_head_train() -> None:
    engine = make_engine({PromptTuning: {"tokens": 3}}, Setup(dropout=0.2))
    before = {name: value.clone() for name, value in engine.backbone.state_dict().items()}
    engine.fit()
    moved = {
        name for name, value in engine.backbone.state_dict().items() if not torch.equal(value, before[name])
    }
    assert moved == {"prompt.vectors", "head.1.weight", "head.1.bias"}
    assert [name for name, _ in engine.backbone.blocks()] == ["embedding", "layer.0", "layer.1", "head"]


def test_it_reaches_a_lower_loss_than_the_head_alone() -> None:
    """The gradient through the frozen network does its work."""
    recipes: list[Recipe] = [{technique_class("freeze"): {"until": "1dur"}}, {PromptTuning: {"tokens": 8}}]
    losses = []
    for recipe in recipes:
        engine = make_engine({**recipe, technique_class("adamw"): {"lr": 0.05}}, Setup(epochs=20))
        engine.fit()
        losses.append(float(engine.loss))
    assert losses[1] < losses[0] - 0.02


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ("lora", "each freezes what the other trains"),
        ("prefix_tuning", "each freezes what the other trains"),
        ("reinit_layers", "would stay random"),
        ("gradual_unfreezing", "freezes every block for the whole run"),
        ("layerwise_lr", "freezes every block for the whole run"),
    ],
)
def test_what_it_cannot_stand_beside(other: str, words: str) -> None:
    techniques = [make(technique_class(name), {}) for name in ("prompt_tuning", other, "cross_entropy")]
    with pytest.raises(ConflictError, match=rf"prompt_tuning clashes with {other}: .*{words}"):
        build_plan(techniques, make_context())


def test_a_vocabulary_needs_an_ordinary_token() -> None:
    with pytest.raises(ValueError, match="a vocabulary of 2 tokens has none but special ones"):
        draw_tokens(3, 2, (0, 1), torch.Generator())


def test_parity() -> None:
    path = Path(__file__).parents[2] / "benchmarks" / "parity" / "efficient.py"
    rows = list(runpy.run_path(str(path))["rows"]())
    assert {name for name, *_ in rows} == {"prompt_tuning", "prefix_tuning", "quantised"}
    assert max(apart for *_, apart in rows) <= 1e-10, rows

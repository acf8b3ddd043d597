"""Models with parts of techniques are saved and opened again: by us, by transformers and by its pipeline."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForSequenceClassification, pipeline

from etude.backbones.automodel import EtudeForSequenceClassification
from etude.backbones.text import TextBackbone, load_saved, load_text_backbone
from etude.config.run import BackboneConfig
from etude.core.task import Task, make_task
from etude.errors import RunError
from etude.parts import Head, LabelLayer, Part, Pooler, StackedHead, make_part, parts
from etude.testing.technique_suite import difference

Make = Callable[..., BackboneConfig]
TEXTS = ["the card was lost please", "where is my money", "help"]
SETTINGS: dict[str, dict[str, Any]] = {
    "attention_pooling": {"width": 16, "heads": 2, "hidden": 5},
    "layer_pooling": {"layers": 2, "tokens": "mean"},
    "cnn_head": {"width": 16, "windows": [2, 3], "filters": 4, "dropout": 0.3},
    "rnn_head": {"width": 16, "cell": "gru", "hidden": 5, "tokens": "max", "dropout": 0.3},
    "transformer_head": {
        "width": 16, "layers": 1, "heads": 4, "hidden": 20, "tokens": "cls", "dropout": 0.3,
    },
    "label_embedding": {"width": 16, "n_classes": 3, "dim": 6, "scale": 8.0, "dropout": 0.3},
    "label_crf": {"n_classes": 3, "decode": "marginal"},
    "classifier_chain": {"order": [1, 0, 2], "feed": "decision"},
}  # fmt: skip
SUBSETS = make_task("multilabel", ["lost", "open", "closed"])


def put(backbone: TextBackbone, name: str, **other: Any) -> TextBackbone:
    """Put a part where its technique would, with weights that matter."""
    part = make_part(name, {**SETTINGS[name], **other})
    part.draw(0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in part.parameters():
            value += 0.5 * torch.randn(value.shape, generator=generator)
    if isinstance(part, Pooler):
        backbone.put_pooler(part)
    elif isinstance(part, LabelLayer):
        backbone.put_head(StackedHead(backbone.head, part))
    else:
        backbone.put_head(part)
    return backbone


def logits(backbone: TextBackbone) -> torch.Tensor:
    inputs = dict(backbone.tokenizer(TEXTS, padding=True, return_tensors="pt"))
    with torch.no_grad():
        found: torch.Tensor = backbone.eval()(inputs).logits
    return found


def test_every_part_is_here() -> None:
    kinds = (Head, LabelLayer, Pooler)
    # What multi_sample_dropout saves is a linear head.
    expected = {name for name, kind in parts().items() if issubclass(kind, kinds)} - {"multi_sample_dropout"}
    assert set(SETTINGS) == expected


@pytest.mark.parametrize(
    ("architecture", "pooling"), [("bert", "mean"), ("bert", "native"), ("gpt2", "last")]
)
@pytest.mark.parametrize("name", SETTINGS)
def test_every_way_of_opening_predicts_the_same(
    name: str, architecture: str, pooling: str, config: Make, tmp_path: Path
) -> None:
    plain = load_text_backbone(config(architecture, pooling=pooling), SUBSETS, seed=0)
    before = logits(plain)
    backbone = put(plain, name)
    expected = logits(backbone)
    assert not torch.allclose(expected, before, atol=1e-3)
    folder = tmp_path / "model"
    backbone.save(folder, {"task": "multilabel", "techniques": [name, "adamw"]})
    said = json.loads((folder / "config.json").read_text())
    assert said["model_type"] == "etude-text"
    kept = next(said[place] for place in ("pooler", "label_layer", "head") if isinstance(said[place], dict))
    assert kept == {"name": name, "settings": SETTINGS[name]}

    saved = load_saved(folder)
    assert torch.allclose(logits(saved), expected, atol=1e-6)
    assert saved.trained_with == {name, "adamw"}
    saved.save(tmp_path / "second", {})
    assert (
        difference(load_file(tmp_path / "second/model.safetensors"), load_file(folder / "model.safetensors"))
        == 0
    )

    inputs = backbone.tokenizer(TEXTS, padding=True, return_tensors="pt")
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    assert isinstance(model, EtudeForSequenceClassification)
    with torch.no_grad():
        assert torch.allclose(model.eval()(**inputs).logits, expected, atol=1e-5)


@pytest.mark.parametrize("decode", ["marginal", "map"])
def test_everything_together_through_the_pipeline(decode: str, config: Make, tmp_path: Path) -> None:
    backbone = load_text_backbone(config("bert", pooling="mean"), SUBSETS, seed=0)
    for name, more in [("layer_pooling", {}), ("label_embedding", {}), ("label_crf", {"decode": decode})]:
        put(backbone, name, **more)
    backbone.save(tmp_path / "model", {})
    classify = pipeline("text-classification", model=str(tmp_path / "model"), top_k=None)
    expected = torch.sigmoid(logits(backbone))
    for found, row in zip(classify(TEXTS), expected, strict=True):
        by_label = {entry["label"]: entry["score"] for entry in found}
        assert [by_label[label] for label in SUBSETS.labels] == pytest.approx(row.tolist(), abs=1e-5)


@pytest.mark.parametrize("architecture", ["distilbert", "roberta", "deberta-v2", "modernbert", "llama"])
def test_native_heads_under_other_poolers(architecture: str, config: Make, tmp_path: Path) -> None:
    backbone = put(load_text_backbone(config(architecture, pooling="native"), SUBSETS, seed=0), "rnn_head")
    backbone.save(tmp_path / "model", {})
    saved = load_saved(tmp_path / "model")
    assert torch.allclose(logits(saved), logits(backbone), atol=1e-6)
    assert type(saved.head) is type(backbone.head)


def test_dropout_of_parts_comes_from_the_models_keys(config: Make) -> None:
    backbone = put(load_text_backbone(config("bert", pooling="mean"), SUBSETS, seed=0), "transformer_head")
    inputs = dict(backbone.tokenizer(TEXTS, padding=True, return_tensors="pt"))
    backbone.train()
    found = []
    for key in (1, 1, 2):
        backbone.key_randomness(key)
        found.append(backbone(inputs).logits)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_a_new_task_keeps_the_network_and_not_the_pooler(config: Make, task: Task, tmp_path: Path) -> None:
    put(load_text_backbone(config("bert", pooling="max"), SUBSETS, seed=0), "cnn_head").save(
        tmp_path / "m", {}
    )
    again = load_text_backbone(BackboneConfig(path=str(tmp_path / "m"), max_length=32), task, seed=0)
    assert again.pooler is None
    assert again.pooling == "max"


def saved_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pooler": {"name": "cnn_heed", "settings": {}}}, r"no part 'cnn_heed'; did you mean 'cnn_head'\?"),
        ({"pooler": {"name": "cnn_head", "settings": {"w": 1}}}, "'cnn_head' cannot be made of the settings"),
        (
            {"pooler": {"name": "label_crf", "settings": SETTINGS["label_crf"]}},
            "as its pooler, which is no Po",
        ),
        ({"head": {"name": "odd", "settings": {}}}, "no part 'odd'"),
        ({"label_layer": {"settings": {}}}, "name"),
    ],
)
def test_unknown_parts_are_named(changes: dict[str, Any], words: str, config: Make, tmp_path: Path) -> None:
    put(load_text_backbone(config("bert", pooling="mean"), SUBSETS, seed=0), "cnn_head").save(
        tmp_path / "m", {}
    )
    saved_config(tmp_path / "m", **changes)
    with pytest.raises(RunError, match=rf"(?s)saved model in .* cannot be opened: .*{words}"):
        load_saved(tmp_path / "m")


def test_a_pooler_that_is_no_part_has_no_saved_form(config: Make, tmp_path: Path) -> None:
    class Odd(nn.Module):
        def forward(self, layers: Any, mask: Any) -> Any:
            return layers[-1][:, 0]

    backbone = load_text_backbone(config("bert", pooling="mean"), SUBSETS, seed=0)
    backbone.put_pooler(Odd())
    with pytest.raises(
        RunError, match=r"holds a Odd, which has no saved form; make it a part of etude.parts"
    ):
        backbone.save(tmp_path / "m", {})


def test_damaged_metadata_are_named(config: Make, tmp_path: Path) -> None:
    backbone = load_text_backbone(config("bert", pooling="mean"), SUBSETS, seed=0)
    backbone.save(tmp_path / "m", {})
    assert load_saved(tmp_path / "m").trained_with == frozenset()
    (tmp_path / "m" / "etude.json").write_text("[")
    with pytest.raises(RunError, match=r"etude\.json is damaged"):
        load_saved(tmp_path / "m")


def test_settings_are_what_makes_a_part() -> None:
    for name, settings in SETTINGS.items():
        part = make_part(name, settings)
        assert isinstance(part, Part)
        assert part.settings == settings

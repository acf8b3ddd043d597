"""Soups of tiny runs: the mean of weights, greedy and uniform, and what is refused."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from etude.config.load import load_config
from etude.ensemble.members import open_members
from etude.ensemble.soup import make_soup, refuse_other_beginnings, tied
from etude.errors import ConfigError, RunError
from etude.runs.evaluate import evaluate
from etude.runs.folder import find_model
from etude.runs.model import Classifier
from etude.runs.train import train

sys.path.insert(0, str(Path(__file__).parents[1] / "runs"))
from tiny_project import write_project

FAST = ["techniques.hidden_mixup.enabled=false", "techniques.ema.enabled=false", "run.report=false"]
FAST += ["data.validation=0.5", "optimizer.lr=0.003"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_project(folder)
        variants = {
            "plain": ["train.epochs=2"],
            "slow": ["optimizer.lr=0.001", "train.epochs=3"],
            "calibrated": ["decision.calibration='temperature'", "train.epochs=3", "loss.name='focal'"],
            "broken": ["optimizer.lr=1.0", "train.epochs=1", "techniques.clip.enabled=false"],
            "other_seed": ["seed=1", "train.epochs=1"],
            "reinitialised": ["techniques.reinit_layers.layers=1", "train.epochs=1"],
        }
        for name, changes in variants.items():
            train(load_config("config.toml", [*FAST, *changes, f"run.dir='{name}'"]))
    return folder


@pytest.fixture(autouse=True)
def here(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)


def soup(tmp_path: Path, *names: str, **more: Any) -> Any:
    return make_soup([Path(name) for name in names], tmp_path / "soup", **more)


def test_a_uniform_soup_is_the_mean_of_weights(tmp_path: Path) -> None:
    made = soup(tmp_path, "plain", "slow", recipe="uniform")
    saved, *parts = (
        load_file(path / "model.safetensors")
        for path in (made.folder / "model", Path("plain/model"), Path("slow/model"))
    )
    for name, value in saved.items():
        assert torch.allclose(value, (parts[0][name] + parts[1][name]) / 2, atol=1e-6), name


def test_a_calibration_inside_a_head_does_not_count_as_weights(tmp_path: Path) -> None:
    metadata = json.loads(Path("calibrated/model/etude.json").read_text())
    assert metadata["calibration_in_head"]["kind"] == "temperature"
    made = soup(tmp_path, "calibrated", "plain", recipe="uniform")
    folded = json.loads((made.folder / "model/etude.json").read_text()).get("calibration_in_head")
    scale = torch.tensor(metadata["calibration_in_head"]["scale"], dtype=torch.float64).reshape(-1)
    mine = torch.tensor(folded["scale"], dtype=torch.float64).reshape(-1)
    (name,) = [n for n in load_file("plain/model/model.safetensors") if "head" in n and n.endswith("weight")]
    saved, calibrated, plain = (
        load_file(f"{folder}/model.safetensors")[name].double()
        for folder in (made.folder / "model", "calibrated/model", "plain/model")
    )
    assert torch.allclose(saved / mine, (calibrated / scale + plain) / 2, atol=1e-5)


def test_a_greedy_soup_is_never_worse_than_the_best_and_leaves_out_what_hurts(tmp_path: Path) -> None:
    made = soup(tmp_path, "broken", "plain", "slow", "calibrated")
    weights = {member["run"]: member["weight"] for member in made.members}
    assert sum(weights.values()) == pytest.approx(1)
    assert made.scores["validation"]["accuracy"] >= max(member["score"] for member in made.members)
    worst = min(made.members, key=lambda member: member["score"])
    assert worst["run"] == "broken"


def test_it_is_an_ordinary_model(tmp_path: Path) -> None:
    made = soup(tmp_path, "plain", "slow", recipe="uniform")
    model = Classifier(find_model(made.folder))
    assert [p.label for p in model.predict(["where is my parcel", "give me my money back"])] == [
        "order",
        "refund",
    ]
    assert evaluate(made.folder).rows == 2
    again = soup(tmp_path / "more", "plain", str(made.folder))
    assert again.scores["validation"]["accuracy"] >= 0.5
    both = [Classifier(Path(name) / "model")._saved.backbone for name in ("plain", "slow")]
    mean = sum(dict(b.named_parameters())["head.out.weight"].detach().numpy() for b in both) / 2
    found = dict(model._saved.backbone.named_parameters())["head.out.weight"].detach().numpy()
    assert np.allclose(found, mean, atol=1e-6)


def test_equal_beginnings_are_known_whatever_the_settings(project: Path) -> None:
    found = [
        json.loads(Path(name, "model/etude.json").read_text())["initial_weights"]
        for name in ("plain", "slow", "calibrated", "broken", "other_seed", "reinitialised")
    ]
    assert len(set(found[:4])) == 1
    assert len(set(found)) == 3


@pytest.mark.parametrize(
    ("names", "more", "error", "words"),
    [
        (["plain", "other_seed"], {}, RunError, "plain and other_seed began with other weights"),
        (["plain", "reinitialised"], {}, RunError, "plain and reinitialised began with other weights"),
        (
            ["plain", "slow"],
            {"recipe": "spicy"},
            ConfigError,
            "the recipe is 'spicy' and must be greedy or uniform",
        ),
        (["plain"], {}, ConfigError, "1 run is no ensemble; name at least two"),
    ],
)
def test_what_has_no_mean_is_refused(
    tmp_path: Path, names: list[str], more: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error) as raised:
        soup(tmp_path, *names, **more)
    assert words in str(raised.value)
    assert not (tmp_path / "soup").exists()


def test_models_of_earlier_versions_and_other_splits_are_refused(tmp_path: Path) -> None:
    shutil.copytree("plain", tmp_path / "old")
    path = tmp_path / "old/model/etude.json"
    metadata = json.loads(path.read_text())
    del metadata["initial_weights"]
    path.write_text(json.dumps(metadata))
    with pytest.raises(RunError, match="old does not say which weights it began with; train it again"):
        refuse_other_beginnings(open_members([Path("plain"), tmp_path / "old"]))
    changes = ["data.validation=0.25", f"run.dir='{tmp_path / 'split'}'", "train.epochs=1"]
    train(load_config("config.toml", [*FAST, *changes]))
    with pytest.raises(RunError, match="split did not hold out the 12 rows that plain did"):
        soup(tmp_path, "plain", str(tmp_path / "split"))


def test_tied_weights_are_found() -> None:
    one = torch.nn.Embedding(3, 2)
    two = torch.nn.Linear(2, 3, bias=False)
    assert tied(torch.nn.Sequential(one, two)) == []
    two.weight = one.weight
    assert tied(torch.nn.Sequential(one, two)) == [("0.weight", "1.weight")]

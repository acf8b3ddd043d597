"""Ensembles of tiny runs: model folders that predict, evaluate, compare and report take like any other."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from etude.config.load import load_config
from etude.core.observe import Reporter
from etude.ensemble.folds import train_folds
from etude.ensemble.make import Made, make_ensemble
from etude.errors import ConfigError, RunError
from etude.kinds import ensemble as kind
from etude.runs.compare import compare
from etude.runs.evaluate import evaluate
from etude.runs.folder import find_model
from etude.runs.model import Classifier
from etude.runs.report import write_report
from etude.runs.train import train

sys.path.insert(0, str(Path(__file__).parents[1] / "runs"))
from tiny_project import TEXTS, write_project

FAST = ["techniques.hidden_mixup.enabled=false", "techniques.ema.enabled=false", "optimizer.lr=0.003"]
FAST += ["data.validation=0.5"]
LABELS = "run.report=false"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs on one split that differ in their loss and length, and one with another seed."""
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_project(folder)
        variants = {
            "plain": ["train.epochs=2"],
            "focal": ["loss.name='focal'", "train.epochs=3"],
            "calibrated": ["decision.calibration='temperature'", "train.epochs=4"],
            "other_seed": ["seed=1", "train.epochs=1"],
        }
        for name, changes in variants.items():
            train(load_config("config.toml", [*FAST, *changes, LABELS, f"run.dir='{name}'"]))
    return folder


@pytest.fixture(autouse=True)
def here(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)


def ensemble(tmp_path: Path, *names: str, **more: Any) -> Made:
    return make_ensemble([Path(name) for name in names], tmp_path / "whole", **more)


ASKED = ["where is my parcel now", "give me my money back please", "please where is a parcel", "money b"]


@pytest.mark.parametrize("method", ["probabilities", "logits"])
def test_it_predicts_the_mean_of_its_members(tmp_path: Path, method: str) -> None:
    made = ensemble(tmp_path, "plain", "focal", "calibrated", method=method)
    whole = Classifier(find_model(made.folder))
    parts = np.stack(
        [Classifier(Path(name) / "model").predict_proba(ASKED) for name in ("plain", "focal", "calibrated")]
    )
    if method == "probabilities":
        mean = parts.mean(0)
    else:
        mean = np.exp(np.log(parts).mean(0))
        mean /= mean.sum(1, keepdims=True)
    assert np.allclose(whole.predict_proba(ASKED), mean, atol=1e-5)
    assert [p.label for p in whole.predict(ASKED)][:2] == ["order", "refund"]


@pytest.mark.parametrize("method", ["probabilities", "logits", "ranks", "stacking"])
def test_its_scores_are_those_that_evaluate_finds(tmp_path: Path, method: str) -> None:
    made = ensemble(tmp_path, "plain", "focal", method=method)
    again = evaluate(made.folder)
    for name, value in made.scores["test"].items():
        assert again.scores[name] == pytest.approx(value, abs=1e-4), name


def test_compare_and_report_take_it(tmp_path: Path) -> None:
    made = ensemble(tmp_path, "plain", "focal")
    found = compare(Path("plain"), made.folder, "validation")
    assert found.rows == 12
    assert write_report(made.folder).is_file()
    assert [member["weight"] for member in made.members] == [0.5, 0.5]


def test_fitted_weights_are_kept_and_used(tmp_path: Path) -> None:
    made = ensemble(tmp_path, "plain", "calibrated", fitted=True)
    weights = [member["weight"] for member in made.members]
    assert sum(weights) == pytest.approx(1, abs=1e-5)
    parts = [Classifier(Path(name) / "model").predict_proba(ASKED) for name in ("plain", "calibrated")]
    mean = weights[0] * parts[0] + weights[1] * parts[1]
    assert np.allclose(Classifier(find_model(made.folder)).predict_proba(ASKED), mean, atol=1e-5)


def test_members_that_read_alike_are_tokenized_once(tmp_path: Path) -> None:
    made = ensemble(tmp_path, "plain", "focal", "calibrated")
    saved = Classifier(find_model(made.folder))._saved
    assert isinstance(saved, kind.SavedEnsemble)
    assert len(saved._readers) == 1
    assert len(saved.members) == 3


def test_an_ensemble_may_be_a_member(tmp_path: Path) -> None:
    inner = make_ensemble([Path("plain"), Path("focal")], tmp_path / "inner", method="logits")
    outer = make_ensemble([inner.folder, Path("calibrated")], tmp_path / "outer", method="logits")
    parts = [
        Classifier(Path(name) / "model").predict_proba(ASKED) for name in ("plain", "focal", "calibrated")
    ]
    logs = 0.25 * np.log(parts[0]) + 0.25 * np.log(parts[1]) + 0.5 * np.log(parts[2])
    mean = np.exp(logs) / np.exp(logs).sum(1, keepdims=True)
    assert np.allclose(Classifier(find_model(outer.folder)).predict_proba(ASKED), mean, atol=1e-5)


def test_seeds_without_common_held_out_rows_are_averaged_and_not_fitted(tmp_path: Path) -> None:
    made = ensemble(tmp_path, "plain", "other_seed")
    assert "validation" not in made.scores
    assert made.notes[0].startswith("the members have too few held-out rows in common")
    with pytest.raises(ConfigError, match="fitted weights need rows that no member was trained on"):
        make_ensemble([Path("plain"), Path("other_seed")], tmp_path / "x", fitted=True)
    assert not (tmp_path / "x").exists()


def test_folds_are_scored_out_of_fold(tmp_path: Path) -> None:
    overrides = [*FAST, "data.folds=3", "train.epochs=2", LABELS, f"run.dir='{tmp_path / 'folds'}'"]
    config = load_config("config.toml", overrides)
    made = train_folds(config, reporter=Reporter())
    assert made.folder == tmp_path / "folds" / "ensemble"
    rows = [json.loads((tmp_path / f"folds/fold-{i}/summary.json").read_text())["rows"] for i in range(3)]
    n = json.loads((made.folder / "summary.json").read_text())["rows"]["validation"]
    assert n == sum(row["validation"] for row in rows) == 24
    assert evaluate(made.folder).scores["accuracy"] == made.scores["test"]["accuracy"]
    with pytest.raises(ConfigError, match="stacking need all members' predictions of the same rows"):
        make_ensemble([tmp_path / f"folds/fold-{i}" for i in range(3)], tmp_path / "x", method="stacking")
    before = (tmp_path / "folds/fold-0/summary.json").stat().st_mtime_ns
    shutil.rmtree(made.folder)
    train_folds(config)
    assert (tmp_path / "folds/fold-0/summary.json").stat().st_mtime_ns == before, "a fold was trained again"


def test_an_ensemble_teaches_one_model(tmp_path: Path) -> None:
    made = ensemble(tmp_path, "plain", "focal")
    changes = [f"techniques.distillation.teacher='{made.folder}'", "train.epochs=1"]
    taught = train(load_config("config.toml", [*FAST, *changes, LABELS, f"run.dir='{tmp_path / 'student'}'"]))
    assert taught.scores["test"]["accuracy"] >= 0.5
    assert set(TEXTS) == {"order", "refund"}


@pytest.mark.parametrize(
    ("names", "more", "error", "words"),
    [
        (["plain"], {}, ConfigError, "1 run is no ensemble; name at least two"),
        (["plain", "plain"], {}, ConfigError, "plain is named twice; name each run once"),
        (["plain", "gone"], {}, RunError, "gone holds no run: there is no config.toml in it"),
        (["plain", "focal"], {"method": "mean"}, ConfigError, "there is no method 'mean'"),
        (["plain", "relabelled"], {}, RunError, "relabelled predicts other labels than plain"),
        (["plain", "changed"], {}, RunError, "of the validation part is not the same in plain and changed"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    tmp_path: Path, names: list[str], more: dict[str, Any], error: type[Exception], words: str
) -> None:
    if not Path("relabelled").exists():
        text = Path("messages.csv").read_text()
        for name, other in (
            ("relabelled", text.replace(",refund", ",cash")),
            ("changed", text.replace("my", "give")),
        ):
            Path("other.csv").write_text(other)
            changes = ["data.train='other.csv'", "data.test=2", "train.epochs=1", LABELS, f"run.dir='{name}'"]
            if name == "changed":
                changes[1] = "data.test='held_out.csv'"
            train(load_config("config.toml", [*FAST, *changes]))
    with pytest.raises(error) as raised:
        ensemble(tmp_path, *names, **more)
    assert words in str(raised.value)
    assert not (tmp_path / "whole").exists()


def test_a_used_folder_and_a_damaged_ensemble_are_refused(tmp_path: Path) -> None:
    made = ensemble(tmp_path, "plain", "focal")
    with pytest.raises(RunError, match="already holds a run"):
        ensemble(tmp_path, "plain", "focal")
    model = find_model(made.folder)
    shutil.rmtree(model / "members/1")
    with pytest.raises(RunError, match=r"the member .*members/1 of the ensemble cannot be read"):
        Classifier(model)
    metadata = json.loads((model / "etude.json").read_text())
    del metadata["ensemble"]
    (model / "etude.json").write_text(json.dumps(metadata))
    with pytest.raises(RunError, match="does not say which members the ensemble has"):
        Classifier(model)

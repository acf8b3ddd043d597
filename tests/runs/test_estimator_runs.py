"""Trees and logistic regression go through every job that a network goes through."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from etude.config.load import parse_config
from etude.data.sources import read_table
from etude.errors import ConflictError, RunError
from etude.runs.compare import compare
from etude.runs.evaluate import evaluate
from etude.runs.explain import explain
from etude.runs.interpret import interpret
from etude.runs.model import Classifier
from etude.runs.predictions import read_predictions
from etude.runs.train import Result, resume, train

TEXTS = {"order": "where is my parcel", "refund": "give me my money back", "other": "hello there friend"}


def write(path: Path, columns: dict[str, list[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def table(path: Path, n: int, seed: int) -> None:
    """Two columns of numbers with holes, one of categories, a comment, weights, a label and two labels."""
    draw = np.random.default_rng(seed)
    age, pay = draw.normal(40, 10, n), draw.lognormal(3, 1, n)
    city = draw.choice(["Rome", "Oslo", "Lima", ""], n)
    score = (age - 40) / 5 + np.where(city == "Oslo", 3, -1) + draw.normal(size=n)
    label = np.where(score > 1, "yes", np.where(score < -2, "no", "maybe"))
    words = np.where(pay > 20, "paid very well indeed", "paid not so well")
    write(
        path,
        {
            "age": [f"{a:.2f}" if draw.random() > 0.05 else "" for a in age],
            "pay": [f"{p:.2f}" for p in pay],
            "city": city.tolist(),
            "note": [f"{word} number {i}" for i, word in enumerate(words)],
            "weight": draw.choice(["1", "2"], n).tolist(),
            "label": label.tolist(),
            "rich": (pay > 20).astype(int).tolist(),
            "old": (age > 45).astype(int).tolist(),
        },
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("estimators")
    table(folder / "train.csv", 500, 0)
    table(folder / "test.csv", 200, 1)
    endings = ("please", "now", "today", "sir", "madam", "again")
    texts = [f"{text} {word}" for word in endings for text in TEXTS.values()]
    write(folder / "texts.csv", {"text": texts * 4, "label": list(TEXTS) * 24})
    return folder


def config_of(folder: Path, name: str, backbone: dict[str, Any], **more: Any) -> Any:
    found: dict[str, Any] = {
        "data": {
            "train": str(folder / "train.csv"),
            "test": str(folder / "test.csv"),
            "validation": 0.2,
            "labels": "label",
            "weight": "weight",
        },
        "columns": {"ignore": ["rich", "old", "note"]},
        "backbone": backbone,
        "run": {"dir": str(folder / name), "resamples": 20, "baselines": False},
    }
    for section, settings in more.items():
        found[section] = {**found.get(section, {}), **settings}
    return parse_config(found)


BACKBONES: dict[str, dict[str, Any]] = {
    "trees": {"kind": "trees", "n_rounds": 40, "min_rows_in_leaf": 5, "early_stopping": 5},
    "lightgbm": {"kind": "trees", "library": "lightgbm", "n_rounds": 20, "min_rows_in_leaf": 5},
    "linear": {"kind": "linear"},
}


@pytest.fixture(scope="module")
def runs(project: Path) -> dict[str, Result]:
    return {name: train(config_of(project, name, backbone)) for name, backbone in BACKBONES.items()}


@pytest.mark.parametrize("name", BACKBONES)
def test_a_run_is_scored_saved_and_reported(name: str, runs: dict[str, Result], project: Path) -> None:
    found = runs[name]
    assert found.scores["test"]["accuracy"] > 0.65
    folder = found.folder
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["metrics"]["test"] == found.scores["test"]
    assert sum(summary["importances"].values()) == pytest.approx(1.0, abs=1e-4)
    assert next(iter(summary["importances"])) in ("age", "city")
    curves = summary["fit"]
    assert curves["kept"] == summary["steps"]
    assert len(curves["train"]) == len(curves["validation"]) == len(curves["at"])
    history = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in history] == sorted(record["step"] for record in history)
    assert history[-1]["step"] == curves["kept"]
    assert history[-1]["validation"]["accuracy"] > 0.65
    assert history[0]["train"]["loss"] > history[-2]["train"]["loss"]
    page = (folder / "report.html").read_text()
    assert "training loss fell" in page
    assert f"Over the {curves['unit']} of the fit" in page
    assert "What each column contributes" in page
    scored = evaluate(folder, str(project / "test.csv"), resamples=0)
    assert scored.scores["accuracy"] == pytest.approx(found.scores["test"]["accuracy"])
    assert scored.scores["loss"] == pytest.approx(found.scores["test"]["loss"], rel=1e-5)


def test_a_saved_model_predicts_the_same_bits(runs: dict[str, Result], project: Path) -> None:
    for result in runs.values():
        classifier = Classifier(result.folder / "model")
        kept = read_predictions(result.folder, "test", classifier.task)
        assert kept is not None
        logits = classifier.logits_of_table(read_table(str(project / "test.csv"), role="test"))
        assert np.array_equal(logits, kept.logits)


def test_a_model_predicts_rows_with_unknown_categories_and_holes(runs: dict[str, Result]) -> None:
    rows = [{"age": 61, "pay": 3.0, "city": "Atlantis"}, {"age": None, "pay": 3.0, "city": None}]
    for result in runs.values():
        first, second = result.model.predict(rows)
        assert first.label == "yes"
        assert sum(second.probabilities.values()) == pytest.approx(1.0, abs=1e-5)


def test_runs_of_different_kinds_are_compared(runs: dict[str, Result]) -> None:
    found = compare(runs["trees"].folder, runs["linear"].folder, resamples=50)
    assert found.rows == 200
    assert "accuracy" in found.differences


def test_the_plan_says_what_acts(project: Path) -> None:
    config = config_of(
        project, "explained", BACKBONES["trees"], techniques={"class_weights": {"strategy": "balanced"}}
    )
    found = explain(config)
    assert "boosted trees of sklearn, at most 40 rounds of 31 leaves" in found.text
    assert "class_weights" in found.text
    assert "parameter groups" not in found.text
    assert "steps" not in found.text


def test_class_weights_act(project: Path) -> None:
    weighted = config_of(
        project, "weighted", BACKBONES["linear"], techniques={"class_weights": {"weights": {"maybe": 20.0}}}
    )
    found = train(weighted).model.predict([{"age": 47, "pay": 3.0, "city": "Rome"}])[0]
    assert found.probabilities["maybe"] > 0.5


@pytest.mark.parametrize(
    ("section", "settings", "words"),
    [
        ("techniques", {"ema": {}}, r"trees are not trained by steps, and \[techniques.ema\] acts on steps"),
        ("optimizer", {"name": "sgd"}, r"remove \[optimizer\], or use kind = \"table\""),
        ("train", {"epochs": 3}, r"train.epochs acts on steps"),
    ],
)
def test_what_acts_on_steps_is_refused(
    section: str, settings: dict[str, Any], words: str, project: Path
) -> None:
    config = config_of(project, "refused", BACKBONES["trees"], **{section: settings})
    with pytest.raises(ConflictError, match=words):
        train(config)
    assert not (project / "refused").exists()


def test_a_recommended_technique_may_be_switched_off_all_the_same(project: Path) -> None:
    config = config_of(project, "off", BACKBONES["trees"], techniques={"clip": {"enabled": False}})
    assert "clip" not in explain(config).text


def test_any_subset_of_labels(project: Path) -> None:
    data = {"labels": ["rich", "old"]}
    for name, backbone in BACKBONES.items():
        config = config_of(
            project, f"several_{name}", backbone, data=data, columns={"ignore": ["label", "note"]}
        )
        found = train(config)
        assert found.scores["test"]["f1_macro"] > 0.8


def test_a_run_without_a_validation_part_keeps_all_rounds(project: Path) -> None:
    config = config_of(project, "whole", BACKBONES["trees"], data={"validation": False})
    summary = json.loads((train(config).folder / "summary.json").read_text())
    assert summary["fit"]["kept"] == 40
    assert summary["fit"]["validation"] == []


def test_linear_reads_texts_alone_and_beside_a_table(project: Path) -> None:
    texts = {"train": str(project / "texts.csv"), "test": 0.2, "validation": False, "weight": None}
    config = config_of(
        project, "texts", {"kind": "linear", "inputs": "text"}, data=texts, columns={"ignore": []}
    )
    found = train(config)
    assert found.scores["test"]["accuracy"] == 1.0
    assert found.model.predict(["where is the parcel"])[0].label == "order"
    beside = config_of(
        project, "beside", {"kind": "linear"}, data={"labels": "rich"},
        columns={"text": ["note"], "ignore": ["pay", "label", "old"]},
    )  # fmt: skip
    found = train(beside)
    assert found.scores["test"]["accuracy"] > 0.95
    assert (found.folder / "model" / "terms.json").is_file()


def test_the_same_config_gives_the_same_model_and_a_stopped_run_is_fitted_anew(
    project: Path, runs: dict[str, Result]
) -> None:
    again = train(config_of(project, "again", BACKBONES["trees"]))
    assert again.scores == runs["trees"].scores
    (again.folder / "summary.json").unlink()
    assert resume(again.folder).scores == runs["trees"].scores


def test_words_are_not_interpreted_where_there_are_none(runs: dict[str, Result]) -> None:
    with pytest.raises(RunError, match="is of kind = 'trees', and what is interpreted are the words"):
        interpret(runs["trees"].folder, ["a text"])

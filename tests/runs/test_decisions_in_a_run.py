"""From logits to labels in a whole run: fitted on validation rows, saved with the model, used by predict."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_project import etude, write_project
from transformers import pipeline

from etude import api
from etude.config.load import parse_config
from etude.core.task import make_task
from etude.decision.calibration import Calibration
from etude.decision.postprocessor import Decision
from etude.errors import EtudeError
from etude.runs.artefact import calibrated_head
from etude.runs.build import build
from etude.runs.model import Classifier
from etude.runs.predictions import read_predictions

WORDS = ["a", "b", "c", "d", "e", "f", "g", "h"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: str, rows: list[dict[str, Any]]) -> None:
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))


def config(**sections: Any) -> dict[str, Any]:
    """A run of a tiny BERT, with some of its sections replaced."""
    base: dict[str, dict[str, Any]] = {
        "data": {"train": "train.jsonl", "validation": "validation.jsonl", "test": "test.jsonl"},
        "backbone": {"path": "tiny", "pooling": "mean", "max_length": 16, "dropout": 0.0},
        "train": {"epochs": 3, "batch_size": 8, "precision": "fp32"},
        "run": {"dir": "run", "resamples": 50, "baselines": False},
    }
    return base | sections


def two_classes() -> list[dict[str, Any]]:
    kinds = [("parcel", "order"), ("money", "back")]
    return [{"text": f"{word} {text}", "label": label} for word in WORDS for text, label in kinds]


def tagged(n: int, first: int) -> list[dict[str, Any]]:
    """Rows with the tag "order" for most texts on parcels, "money" for some on money: both a little noisy."""
    rows = []
    for i in range(first, first + n):
        words = [WORDS[i % 8], "parcel" if i % 2 else "money", WORDS[(i // 8) % 8]]
        tags = ["order"] if i % 2 and i % 7 else ["money"] if i % 2 == 0 and i % 3 == 0 else []
        rows.append({"text": " ".join(words), "label": tags})
    return rows


def test_a_multilabel_run_is_thresholded_and_says_what_it_gained(project: Path) -> None:
    for part, n, first in (("train", 64, 0), ("validation", 40, 100), ("test", 40, 200)):
        write(f"{part}.jsonl", tagged(n, first))
    result = api.train(config(decision={"thresholds": "per_label", "calibration": "platt"}))
    summary = json.loads((result.folder / "summary.json").read_text())
    assert [row["threshold"] for row in summary["per_class"]["test"]] == pytest.approx(
        list(result.model.decision.thresholds)
    )
    # Cross-fitted: the scores of the validation part are not those of the decision that it fitted.
    task = make_task("multilabel", summary["labels"])
    for part in ("validation", "test"):
        scored = read_predictions(result.folder, part, task)
        assert scored is not None
        right = (scored.decisions == scored.truth).all(axis=1).mean()
        assert summary["metrics"][part]["accuracy"] == pytest.approx(right)
        low, high = summary["intervals"][part]["accuracy"]
        assert low <= right <= high
        gain = summary["gain"][part]["f1_macro"]
        plain, fitted = summary["plain"][part]["f1_macro"], summary["metrics"][part]["f1_macro"]
        assert gain["difference"] == pytest.approx(fitted - plain)
        assert set(summary["calibration"][part]["before"]) == {"ece", "brier", "nll"}
    scored = read_predictions(result.folder, "test", task)
    assert scored is not None
    probabilities, decisions = Decision.from_json(task, summary["decision"]).apply(scored.logits)
    np.testing.assert_array_equal(probabilities, scored.probabilities)
    np.testing.assert_array_equal(decisions, scored.decisions)
    # What predict says is what the run said: calibrated, and over the saved thresholds.
    said = Classifier(result.folder / "model", precision="fp32").predict(list(scored.texts))
    found = np.array([[p.probabilities[label] for label in task.labels] for p in said])
    np.testing.assert_allclose(found, scored.probabilities, atol=1e-5)
    assert [p.labels for p in said] == task.names(scored.decisions)
    again = api.evaluate(result.folder, resamples=20)
    # The saved model computes in the processor's own precision, which may move a row over its threshold: what
    # counts here is that evaluate scores exactly what predict says.
    truth = task.names(scored.truth)
    alike = [p.labels == t for p, t in zip(result.model.predict(list(scored.texts)), truth, strict=True)]
    assert again.scores["accuracy"] == pytest.approx(np.mean(alike))
    assert again.rows == 40
    assert set(again.intervals) >= {"f1_macro", "accuracy"}


def test_a_calibration_lives_in_the_head_so_that_the_pipeline_has_it(project: Path) -> None:
    rows = [
        {"text": f"{w} {t}", "label": y} for w in WORDS for t, y in [("parcel", "order"), ("money", "back")]
    ]
    for part in ("train", "validation", "test"):
        write(f"{part}.jsonl", rows)
    result = api.train(config(decision={"calibration": "temperature"}))
    told = json.loads((result.folder / "model" / "etude.json").read_text())
    assert told["decision"]["calibration"]["kind"] == "none"
    assert told["calibration_in_head"]["kind"] == "temperature"
    summary = json.loads((result.folder / "summary.json").read_text())
    assert summary["decision"]["calibration"]["kind"] == "temperature"
    texts = [row["text"] for row in rows]
    classify = pipeline("text-classification", model=str(result.folder / "model"), top_k=None)
    piped = [{entry["label"]: entry["score"] for entry in found} for found in classify(texts)]
    scored = read_predictions(result.folder, "test", make_task("binary", summary["labels"]))
    assert scored is not None
    for row, one in enumerate(piped):
        for c, label in enumerate(summary["labels"]):
            assert one[label] == pytest.approx(float(scored.probabilities[row, c]), abs=1e-5)


def test_a_head_is_as_it_was_after_saving_and_one_that_cannot_take_it_stays_alone(project: Path) -> None:
    write("train.jsonl", [{"text": w, "label": WORDS[i % 3]} for i, w in enumerate(WORDS * 3)])
    run = build(parse_config(config(data={"train": "train.jsonl", "validation": False})))
    task, before = run.data.task, {k: v.clone() for k, v in run.backbone.head.state_dict().items()}
    rule = Decision.plain(task).rule
    scaled = Decision(
        task, Calibration("vector", np.array([0.5, 1.0, 2.0]), np.array([0.1, 0.0, -1.0])), rule
    )
    features = torch.randn(4, 16)
    run.backbone.eval()
    plain = run.backbone.head(features)
    with calibrated_head(run.backbone, scaled) as folded:
        assert folded
        wanted = plain * torch.tensor([0.5, 1.0, 2.0]) + torch.tensor([0.1, 0.0, -1.0])
        torch.testing.assert_close(run.backbone.head(features), wanted)
    for name, value in run.backbone.head.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    steps = Calibration("isotonic", np.zeros(0), np.zeros(0), ((np.array([0.0]), np.array([0.5])),) * 3)
    with calibrated_head(run.backbone, Decision(task, steps, rule)) as folded:
        assert not folded


def test_rows_out_of_scope_are_left_unanswered(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"text": f"{w} {t}", "label": y} for w in WORDS for t, y in [("parcel", "order"), ("money", "back")]
    ]
    outside = [{"text": f"please {w} now", "label": "none"} for w in WORDS]
    write("train.jsonl", rows * 2 + outside[:2])
    write("validation.jsonl", rows + outside)
    write("test.jsonl", rows + outside)
    result = api.train(
        config(
            data={"train": "train.jsonl", "validation": "validation.jsonl", "test": "test.jsonl",
                  "out_of_scope": "none"},
            decision={"abstain": {"by": "out_of_scope", "target": 0.75}},
            train={"epochs": 4, "batch_size": 8, "precision": "fp32"},
        )
    )  # fmt: skip
    assert result.model.task.labels == ("back", "order")
    scores = result.scores["test"]
    assert scores["oos_recall"] >= 0.5
    said = result.model.predict([row["text"] for row in outside])
    assert sum(p.label is None for p in said) == round(scores["oos_recall"] * len(outside))
    assert etude("predict", "run", "test.jsonl", "--output", "said.csv") == 0
    written = Path("said.csv").read_text().splitlines()
    assert len(written) == len(rows) + len(outside) + 1
    assert etude("evaluate", "run") == 0
    assert "oos_recall" in capsys.readouterr().out


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_a_file_of_unanswered_rows_alone_is_written(project: Path, suffix: str) -> None:
    rows = [
        {"text": f"{w} {t}", "label": y} for w in WORDS for t, y in [("parcel", "order"), ("money", "back")]
    ]
    for part in ("train", "validation", "test"):
        write(f"{part}.jsonl", rows)
    result = api.train(config(decision={"abstain": {"by": "coverage", "target": 0.0}}))
    model = result.model
    assert {p.label for p in model.predict(["a parcel", "b money"])} == {None}
    assert model.predict_file("test.jsonl", f"said.{suffix}") == len(rows)


def test_a_test_part_drawn_from_the_training_file_is_scored_again(project: Path) -> None:
    write("train.jsonl", two_classes() * 2)
    result = api.train(config(data={"train": "train.jsonl", "test": 0.25, "validation": False}))
    again = api.evaluate(result.folder, resamples=0)
    assert again.rows == 8
    assert again.scores["accuracy"] == result.scores["test"]["accuracy"]


def test_the_plain_decision_stays_where_there_is_no_validation_part(project: Path) -> None:
    write("train.jsonl", tagged(32, 0))
    write("test.jsonl", tagged(16, 50))
    result = api.train(config(data={"train": "train.jsonl", "test": "test.jsonl", "validation": False}))
    summary = json.loads((result.folder / "summary.json").read_text())
    assert summary["decision"]["calibration"]["kind"] == "none"
    assert list(result.model.decision.thresholds) == [0.5, 0.5]
    assert "validation" not in summary["metrics"]
    assert summary["gain"] == {}


def test_a_finished_run_is_decided_anew_without_training(project: Path) -> None:
    for part, n, first in (("train", 32, 0), ("validation", 40, 100), ("test", 16, 200)):
        write(f"{part}.jsonl", tagged(n, first))
    result = api.train(config(decision={"thresholds": "fixed", "threshold": 0.4, "calibration": "none"}))
    weights = (result.folder / "model" / "model.safetensors").read_bytes()
    file = result.folder / "config.toml"
    file.write_text(file.read_text().replace("threshold = 0.4", "threshold = 0.2"))
    again = api.resume(result.folder)
    assert list(again.model.decision.thresholds) == [0.2, 0.2]
    assert (result.folder / "model" / "model.safetensors").read_bytes() == weights
    assert again.scores["test"]["recall_macro"] >= result.scores["test"]["recall_macro"]


@pytest.mark.parametrize(
    ("decision", "sentence"),
    [
        ({"thresholds": "top_k"}, "decision.thresholds is 'top_k' and the task is binary"),
        ({"calibration": "platt"}, "and there are 0, at least 10 being needed"),
        ({"abstain": {"by": "out_of_scope"}}, "0 held-out rows|and there are 0"),
    ],
)
def test_what_cannot_be_decided_is_refused_before_training(
    project: Path, decision: dict[str, Any], sentence: str
) -> None:
    write("train.jsonl", two_classes())
    with pytest.raises(EtudeError, match=sentence):
        api.train(config(data={"train": "train.jsonl", "validation": False}, decision=decision))
    assert not Path("run").exists()

"""The command ``baseline``, and the same baselines at the end of a run."""

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_project import etude, write_project

from etude.config.load import load_config
from etude.config.run import Config
from etude.core.task import Multiclass
from etude.evaluation.baselines import Baseline
from etude.runs.baseline import baseline, run_baselines, score_baseline
from etude.runs.build import build


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def config(*overrides: str) -> Config:
    return load_config("config.toml", ["run.resamples=100", *overrides])


def test_the_command_scores_validation_and_test(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert etude("baseline", "config.toml", "--json", "--set", "run.resamples=100") == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["zero_rule", "tfidf_logistic", "frozen_logistic"]
    assert found["zero_rule"]["metrics"]["test"]["accuracy"] == 0.5
    assert found["tfidf_logistic"]["metrics"]["test"]["accuracy"] == 1.0
    assert found["tfidf_logistic"]["metrics"]["validation"]["accuracy"] == 1.0
    low, high = found["zero_rule"]["intervals"]["validation"]["accuracy"]
    assert low < found["zero_rule"]["metrics"]["validation"]["accuracy"] < high
    assert found["frozen_logistic"]["rows"] == 18
    assert not Path("run").exists()


def test_the_table_and_the_choice(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert etude("baseline", "config.toml", "--only", "zero_rule", "--set", "run.resamples=0") == 0
    heading, row = capsys.readouterr().out.splitlines()
    assert heading.split()[:3] == ["baseline", "validation", "accuracy"]
    assert row.split()[0] == "zero_rule"
    assert etude("baseline", "config.toml", "--only", "tfidf") == 2
    assert "'tfidf' is no baseline; did you mean 'tfidf_logistic'?" in capsys.readouterr().err
    assert etude("baseline", "config.toml", "--only", "boosted_trees") == 2
    assert "needs data.numeric, which this config lacks" in capsys.readouterr().err


def test_after_training_the_features_are_still_those_of_the_checkpoint(project: Path) -> None:
    before = {name: scores.to_json() for name, scores in baseline(config()).items()}
    run = build(config("train.max_steps=4"))
    run.engine.fit()
    assert run.data.test is not None
    run.data.test.unlock()
    after = run_baselines(run)
    for name, scores in after.items():
        assert scores["metrics"] == before[name]["metrics"]
        assert scores["intervals"] == before[name]["intervals"]
    json.dumps(after, allow_nan=False)


def test_numbers_beside_the_text_grow_trees(project: Path) -> None:
    rows = [{"text": "give me money", "price": i % 2, "label": ["no", "yes"][i % 2]} for i in range(40)]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    more = ["data.train='rows.jsonl'", "data.test=0.25", "data.validation=0.25", "data.numeric=['price']"]
    found = baseline(config(*more), only=["boosted_trees", "frozen_logistic", "tfidf_logistic"])
    assert [scores.metrics["test"]["accuracy"] for scores in found.values()] == [1.0] * 3


def test_several_labels_are_decided_as_the_run_would(project: Path) -> None:
    """At 0.5 the zero rule gives no label; thresholds fitted to F1 make it give every label."""
    words = ["a", "b", "c"]
    rows = [{"text": f"{words[i % 3]} now", "label": [words[i % 3]]} for i in range(60)]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    more = ["data.train='rows.jsonl'", "data.test=0.25", "data.validation=0.5", "task='multilabel'"]
    per_label = ["decision.thresholds='per_label'", "decision.calibration='none'"]
    found = baseline(config(*more, *per_label), only=["zero_rule", "tfidf_logistic"])
    zero = found["zero_rule"]
    assert zero.plain["test"]["f1_macro"] == 0.0
    assert zero.metrics["test"]["f1_macro"] == pytest.approx(0.5)
    assert zero.metrics["validation"]["f1_macro"] == pytest.approx(0.5)
    assert found["tfidf_logistic"].metrics["test"]["f1_macro"] == 1.0


def test_a_run_without_validation_is_decided_plainly(project: Path) -> None:
    found = baseline(config("data.validation=false"), only=["zero_rule"])["zero_rule"]
    assert list(found.metrics) == ["test"]
    assert found.metrics == found.plain


def test_rows_out_of_scope_are_scored(project: Path) -> None:
    text = Path("held_out.csv").read_text() + "tell me a joke,neither\n"
    Path("held_out.csv").write_text(text)
    Path("validation.csv").write_text(text)
    more = ["data.out_of_scope='neither'", "data.validation='validation.csv'"]
    scores = baseline(config(*more), only=["tfidf_logistic"])["tfidf_logistic"].metrics["test"]
    assert scores["in_scope_accuracy"] == 1.0
    assert scores["accuracy"] == pytest.approx(2 / 3)


def test_a_baseline_that_cannot_be_decided_says_so(project: Path) -> None:
    task = Multiclass(["a", "b"])
    logits = {"validation": np.zeros((2, 2), dtype=np.float32)}
    targets = {"validation": np.eye(2, dtype=np.float32)}
    found = Baseline("tfidf_logistic", task, logits, 0.1, 2)
    scores = score_baseline(found, targets, config("decision.thresholds='per_label'"))
    assert scores.metrics["validation"]["accuracy"] == 0.5
    assert scores.note.startswith("decided plainly, since: ")

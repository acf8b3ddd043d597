"""Self-training: rules against scikit-learn's, rounds on a tiny project, stops, the locked test part."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_project
import torch
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.semi_supervised import SelfTrainingClassifier

from etude.config.load import dump_config, parse_config
from etude.config.run import Config
from etude.config.self_training import SelfTrainingConfig, read_self_training
from etude.core.observe import Reporter
from etude.core.task import Multiclass, Multilabel
from etude.data.pseudo_labels import PseudoLabels, read_pseudo_labels
from etude.errors import ConfigError, DataError, RunError
from etude.runs.model import Classifier
from etude.runs.pseudo_labels import Labelled, next_labels, write_pseudo_labels
from etude.runs.self_training import SelfTrained, resume_self_training, self_train

THREE = Multiclass(["0", "1", "2"])


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"method": "threshold", "threshold": 0.75}, {"criterion": "threshold", "threshold": 0.75}),
        ({"method": "threshold", "threshold": 0.9}, {"criterion": "threshold", "threshold": 0.9}),
        ({"method": "k_best", "k_best": 10, "per_class": False}, {"criterion": "k_best", "k_best": 10}),
    ],
)
def test_the_same_rows_in_the_same_rounds_as_scikit_learn(ours: Any, theirs: Any) -> None:
    """Logistic regression on 30 of 300 rows; rows, their rounds and their labels are equal."""
    x, y = make_classification(300, 6, n_informative=4, n_classes=3, class_sep=1.2, random_state=3)
    hidden = np.concatenate([y[:30], np.full(270, -1)])
    known = SelfTrainingClassifier(LogisticRegression(max_iter=500), max_iter=6, **theirs).fit(x, hidden)
    labelled = Labelled(np.eye(3, dtype=np.float32)[y[:30]], np.ones(30, np.float32))
    settings = SelfTrainingConfig(rounds=6, **ours)
    joined_in, given = np.full(300, -1), hidden.copy()
    joined_in[:30] = 0
    learned: PseudoLabels | None = None
    for number in range(1, 7):
        rows = np.arange(30) if learned is None else learned.rows
        model = LogisticRegression(max_iter=500).fit(x[rows], given[rows])
        found = next_labels(settings, THREE, labelled, model.predict_proba(x[30:]), learned)
        if found is None:
            break
        new = np.setdiff1d(found.rows, rows)
        joined_in[new] = number
        given[found.rows] = found.targets.argmax(axis=1)
        learned = found
    assert joined_in.max() >= 3
    assert np.array_equal(joined_in, known.labeled_iter_)
    assert np.array_equal(given, known.transduction_)


TWO = Multiclass(["a", "b"])
SURE = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.55, 0.45]], dtype=np.float32)
GIVEN = Labelled(np.eye(2, dtype=np.float32), np.array([1.0, 2.0], np.float32))


def _next(before: PseudoLabels | None = None, **settings: Any) -> PseudoLabels | None:
    return next_labels(SelfTrainingConfig(**settings), TWO, GIVEN, SURE, before)


def test_each_recipe_takes_its_rows() -> None:
    share = _next(method="confident_share", drop=0.25, weight=0.5)
    assert share is not None
    assert share.rows.tolist() == [0, 1, 2, 3, 4]
    assert share.targets.tolist() == [[1, 0], [0, 1], [1, 0], [0, 1], [0, 1]]
    assert share.weights.tolist() == [1.0, 2.0, 0.5, 0.5, 0.5]
    everything = _next(method="confident_share", drop=0.0, labels="soft")
    assert everything is not None
    assert np.allclose(everything.targets[2:], SURE)
    assert _next(everything, method="confident_share", drop=0.0, labels="soft") is None
    alone = _next(method="pretrain_then_finetune", drop=0.5)
    assert alone is not None
    assert alone.rows.tolist() == [2, 4]
    of_each = _next(method="k_best", k_best=1)
    assert of_each is not None
    assert of_each.rows.tolist() == [0, 1, 2, 4]
    student = _next(method="noisy_student", threshold=0.58, student={"seed_": 1})
    assert student is not None
    assert student.rows.tolist() == [0, 1, 2, 3, 4]
    assert _next(method="threshold") is None


def test_self_distillation_teaches_the_labelled_rows_what_the_model_says_of_them() -> None:
    settings = SelfTrainingConfig(method="self_distillation", share=0.5)
    own = np.array([[0.8, 0.2], [0.4, 0.6]], np.float32)
    found = next_labels(settings, TWO, GIVEN, SURE[:0], None, own)
    assert found is not None
    assert np.allclose(found.targets, [[0.9, 0.1], [0.2, 0.8]])


def test_several_labels_are_decided_each_by_itself() -> None:
    task = Multilabel(["a", "b"])
    both = np.array([[0.95, 0.9], [0.5, 0.45]], np.float32)
    labelled = Labelled(np.array([[1.0, 0.0]], np.float32), np.ones(1, np.float32))
    found = next_labels(SelfTrainingConfig(threshold=0.9), task, labelled, both, None)
    assert found is not None
    assert found.rows.tolist() == [0, 1]
    assert found.targets.tolist() == [[1, 0], [1, 1]]


def test_a_file_of_pseudo_labels_is_read_back_and_a_wrong_one_refused(tmp_path: Path) -> None:
    labels = PseudoLabels(np.array([0, 2]), SURE[:2], np.array([1.0, 0.5], np.float32))
    path = tmp_path / "labels.parquet"
    write_pseudo_labels(path, TWO, labels)
    again = read_pseudo_labels(path, TWO, 3)
    assert np.array_equal(again.targets, labels.targets)
    assert again.rows.tolist() == [0, 2]
    assert again.weights.tolist() == [1.0, 0.5]
    with pytest.raises(DataError, match=r"must name some of the 2 rows"):
        read_pseudo_labels(path, TWO, 2)
    with pytest.raises(DataError, match=r"labels a, b, and those of the training file are 0, 1, 2"):
        read_pseudo_labels(path, THREE, 3)
    with pytest.raises(DataError, match=r"there is no file .*gone"):
        read_pseudo_labels(tmp_path / "gone", TWO, 3)
    (tmp_path / "bad").write_text("no parquet")
    with pytest.raises(DataError, match="cannot be read as pseudo-labels"):
        read_pseudo_labels(tmp_path / "bad", TWO, 3)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    tiny_project.write_project(tmp_path)
    return tmp_path


def _config(**run: Any) -> Config:
    return parse_config(
        {
            "data": {"train": "messages.csv", "test": "held_out.csv", "validation": 0.25, "limit": 6,
                     "unlabelled": "rest"},
            "backbone": {"path": "tiny", "pooling": "mean", "max_length": 16},
            "train": {"epochs": 2, "batch_size": 4, "precision": "fp32"},
            "run": {"dir": "rounds", "resamples": 0, "report": False, **run},
        }
    )  # fmt: skip


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(Classifier(folder / "model")._saved.backbone.state_dict())


def test_rounds_are_runs_and_the_last_ones_model_is_the_result(folder: Path) -> None:
    settings = SelfTrainingConfig(method="confident_share", drop=0.5, rounds=2, labels="soft")
    found = self_train(_config(), settings)
    assert [one.number for one in found.rounds] == [1, 2, 3]
    assert [one.used for one in found.rounds] == [0, 6, 6]
    assert found.rounds[1].added == 6
    assert found.stopped == "all 2 rounds after the first are done"
    summary = json.loads((folder / "rounds/round-2/summary.json").read_text())
    assert summary["rows"] == {"train": 12, "validation": 6, "test": 2}
    # No round but the first and the last, when all was decided, has looked at the test part.
    assert "test" not in summary["metrics"]
    assert found.test is not None
    assert set(found.gain) == {"validation", "test"}
    last, result = _weights(folder / "rounds/round-3"), _weights(folder / "rounds")
    assert all(torch.equal(last[name], result[name]) for name in last)
    assert found.model.predict(["where is my parcel"])[0].label in ("order", "refund")
    assert found.to_json() == json.loads((folder / "rounds/rounds.json").read_text())


class Killed(Exception):
    """Stands for the power that fails."""


class KillsBefore(Reporter):
    """Fails where a folder's run is about to begin."""

    def __init__(self, name: str) -> None:
        self.name, self.started = name, 0

    def line(self, text: str) -> None:
        self.started += text.startswith("\nrounds")
        if self.name and self.name in text:
            raise Killed


def test_finished_rounds_are_not_repeated(folder: Path) -> None:
    settings = SelfTrainingConfig(method="confident_share", drop=0.5, rounds=2)
    with pytest.raises(Killed):
        self_train(_config(), settings, reporter=KillsBefore("rounds/round-3"))
    on = KillsBefore("")
    stopped = resume_self_training(Path("rounds"), reporter=on)
    assert on.started == 1
    whole = self_train(_config(dir="whole"), settings)
    assert [vars(one) for one in stopped.rounds] == [vars(one) for one in whole.rounds]
    a, b = _weights(folder / "rounds"), _weights(folder / "whole")
    assert all(torch.equal(a[name], b[name]) for name in a)
    with pytest.raises(RunError, match="holds self-training with other settings"):
        self_train(_config(), SelfTrainingConfig(method="k_best"))
    with pytest.raises(RunError, match="holds no self-training"):
        resume_self_training(folder)


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "pretrain_then_finetune", "drop": 0.0, "finetune": {"optimizer": {"lr": 1e-5}}},
        {"method": "noisy_student", "student": {"techniques": {"mixup": {"enabled": False}}}},
        {"method": "self_distillation"},
        {"method": "k_best", "k_best": 2, "average_rounds": True},
    ],
)
def test_every_method_goes_its_rounds(folder: Path, settings: Any) -> None:
    found = self_train(_config(), SelfTrainingConfig(rounds=1, **settings))
    assert isinstance(found, SelfTrained)
    assert len(found.rounds) == 2
    assert (folder / "rounds/round-2/model").is_dir()
    used = {"pretrain_then_finetune": 12, "noisy_student": 12, "self_distillation": 12, "k_best": 4}
    assert found.rounds[1].used == used[settings["method"]]


def test_what_cannot_be_is_said(folder: Path) -> None:
    bare = _config().model_copy(update={"data": _config().data.model_copy(update={"unlabelled": None})})
    with pytest.raises(ConfigError, match=r"labels rows without labels and there are none; set data\.unl"):
        self_train(bare, SelfTrainingConfig())
    with pytest.raises(ConfigError, match="under noise that the teacher has not, and none is given"):
        read_self_training({"self_training": {"method": "noisy_student"}})
    with pytest.raises(ConfigError, match="may not change 'data'"):
        read_self_training({"self_training": {"student": {"data": {}}}})
    with pytest.raises(ConfigError, match="finetune is for method = 'pretrain_then_finetune'"):
        read_self_training({"self_training": {"finetune": {"seed_": 1}}})
    with pytest.raises(ConfigError, match=r"self_training\.rounds"):
        read_self_training({}, ["self_training.rounds=0"])
    settings, tables = read_self_training({"data": {"train": "a.csv"}}, ["self_training.k_best=3"])
    assert settings.k_best == 3
    assert tables == {"data": {"train": "a.csv"}}
    (folder / "rounds").mkdir()
    (folder / "rounds/other").touch()
    with pytest.raises(RunError, match=r"exists and is no run's folder"):
        self_train(_config(), SelfTrainingConfig())


def test_the_command_prints_the_rounds_and_resume_goes_on(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = dump_config(_config()) + '\n[self_training]\nmethod = "k_best"\nk_best = 2\nrounds = 1\n'
    (folder / "self.toml").write_text(config)
    assert tiny_project.etude("self-train", "self.toml", "--quiet") == 0
    printed = capsys.readouterr().out
    assert "round  rows added  rows used  least confidence  accuracy (validation)" in printed
    assert "ended: all 1 rounds after the first are done" in printed
    assert "last round minus first, test: " in printed
    assert tiny_project.etude("resume", "rounds", "--json") == 0
    again = json.loads(capsys.readouterr().out)
    assert [one["used"] for one in again["rounds"]] == [0, 4]
    assert tiny_project.etude("compare", "rounds/round-1", "rounds", "--part", "validation", "--json") == 0

"""Groups, times, folds and rows out of scope, from the config to the scores of a run."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tiny_project import ENDINGS, etude, write_project

from etude import api

SETTINGS = ["train.epochs=1", "run.resamples=20", "run.report=false", "run.baselines=false"]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny project with rows that belong to no class, and a column of users and one of days."""
    folder = tmp_path_factory.mktemp("splits")
    write_project(folder)
    header, *rows = (folder / "messages.csv").read_text().splitlines()
    rows += [f"{ending} h h {ending},none" for ending in ENDINGS]
    lines = [f"{row},user {i % 9},2024-01-{1 + i * 5 % 28:02}" for i, row in enumerate(rows)]
    (folder / "messages.csv").write_text("\n".join([f"{header},user,day", *lines]) + "\n")
    return folder


@pytest.fixture
def project(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with that project, and without runs."""
    for file in written.iterdir():
        (tmp_path / file.name).symlink_to(file)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _columns(part: str, name: str) -> Any:
    return pq.read_table(f"run/predictions/{part}.parquet")[name].to_pylist()


def test_rows_out_of_scope_are_no_class_and_are_scored(project: Path) -> None:
    settings = [*SETTINGS, "data.out_of_scope=none", "data.validation=0.5"]
    result = api.train("config.toml", overrides=settings)
    summary = json.loads(Path("run/summary.json").read_text())
    assert summary["labels"] == ["order", "refund"]
    assert summary["rows"] == {"train": 12, "validation": 18, "test": 2}
    assert _columns("validation", "labels").count([]) == 6
    assert [] not in _columns("train", "labels")
    assert {"oos_recall", "in_scope_accuracy"} <= set(result.scores["validation"])
    assert "oos_recall" in api.evaluate(result.folder, "messages.csv").scores


def test_a_fold_of_groups_is_held_out_and_the_folder_trains_again(project: Path) -> None:
    settings = [*SETTINGS, "data.group=user", "data.folds=3", "data.fold=2", "data.test=0.2"]
    api.train("config.toml", overrides=settings)
    users = {part: {row % 9 for row in _columns(part, "row")} for part in ("train", "validation", "test")}
    assert sum(map(len, users.values())) == 9
    assert etude("validate", "run/config.toml", "--set", "data.test=0.3") == 0


def test_the_latest_rows_are_held_out(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", "config.toml", "--set", "data.time=day", "--set", "data.test=9"]
    assert etude(*command, *(word for setting in SETTINGS for word in ("--set", setting))) == 0
    days = {
        part: [1 + row * 5 % 28 for row in _columns(part, "row")] for part in ("train", "validation", "test")
    }
    assert max(days["train"]) <= min(days["validation"]) <= max(days["validation"]) <= min(days["test"])
    assert "the test part holds the 9 latest rows by 'day'" in "".join(capsys.readouterr())

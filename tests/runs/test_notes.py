"""What techniques found and what is doubtful is said at the start of a run, and kept in its folder."""

import json
from pathlib import Path

import pytest
from tiny_project import etude, write_project

from etude.config.load import load_config
from etude.runs.explain import explain

TABLE = "class_weights:\n weight    rows  class\n  5.000       9  refund\n  1.000       9  order"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_weights_by_label_and_a_double_correction_are_shown(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = [
        "techniques.class_weights.weights.refund=5",
        "techniques.oversample.ratio=1.0",
        "train.epochs=1",
    ]
    assert etude("train", "config.toml", *(word for change in changes for word in ("--set", change))) == 0
    said = capsys.readouterr().err
    assert TABLE in said
    assert said.count("warning: ") == 1
    assert "together with" in said
    assert "rare ones may count twice over" in said
    assert TABLE in (project / "run/plan.txt").read_text()
    found = explain(load_config(project / "run/config.toml"))
    assert TABLE in found.text
    assert [list(found.data[key]) for key in ("notes",)] == [[TABLE]]
    assert len(found.data["warnings"]) == 1
    assert json.loads((project / "run/summary.json").read_text())["steps"] == 3


def test_a_run_with_nothing_to_note_says_nothing(project: Path) -> None:
    found = explain(load_config(project / "config.toml"))
    assert found.data["notes"] == []
    assert found.data["warnings"] == []

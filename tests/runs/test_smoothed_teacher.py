"""A run's saved model tells what trained it, so that a teacher with smoothed labels is refused."""

import json
from pathlib import Path

import pytest
from tiny_project import write_project

import etude
from etude.config.load import load_config
from etude.errors import ConflictError
from etude.runs.build import build


def test_what_trained_a_model_is_saved_and_a_smoothed_teacher_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_project(tmp_path)
    short = ["train.epochs=1", "techniques.hidden_mixup.enabled=false"]
    etude.train("config.toml", overrides=[*short, "techniques.label_smoothing.smoothing=0.1"])
    said = json.loads((tmp_path / "run/model/etude.json").read_text())
    assert {"adamw", "ema", "label_smoothing"} <= set(said["techniques"])
    assert "hidden_mixup" not in said["techniques"]

    distilled = [*short, "run.dir=student", "techniques.distillation.teacher=run"]
    with pytest.raises(ConflictError, match="the teacher in run was trained with label_smoothing"):
        build(load_config("config.toml", overrides=distilled))
    wanted = [*distilled, "techniques.distillation.smoothed_teacher=true"]
    assert "extra_loss:distillation" in build(load_config("config.toml", overrides=wanted)).plan.describe()

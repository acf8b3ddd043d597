"""A whole run whose epochs differ: its steps, its scores at the ends of epochs, its plan and its model."""

import json
from pathlib import Path

import pytest
import torch
from tiny_project import etude, write_project

from etude.config.load import load_config
from etude.core.backbone import Backbone
from etude.core.phases import MODEL
from etude.core.plan import Plan
from etude.runs.build import build
from etude.runs.explain import explain
from etude.techniques.heads.zero_head import ZeroHead

CHANGES = ["train.save_every=1ep", "train.evaluate_every=1ep", "techniques.growing_batch.phases=3",
           "techniques.zero_head.scale=0.0", "techniques.watch.every=4st"]  # fmt: skip


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_growing_batch_is_trained_scored_and_explained(project: Path) -> None:
    words = [word for change in CHANGES for word in ("--set", change)]
    assert etude("train", "config.toml", "--quiet", *words) == 0
    # 18 rows in steps of 8, 16 and 32, two epochs each.
    ends = [3, 6, 8, 10, 11, 12]
    lines = [json.loads(line) for line in (project / "run/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "validation" in line] == ends
    assert [line["step"] for line in lines if "watch" in line] == [4, 8, 12]
    assert json.loads((project / "run/summary.json").read_text())["steps"] == 12
    assert "model:zero_head" in (project / "run/plan.txt").read_text()
    said = explain(load_config(project / "run/config.toml"))
    assert "steps        12 of 8 then 16 then 32 rows, 3 then 2 then 1 an epoch\n" in said.text
    assert said.data["steps_of_epochs"] == [3, 3, 2, 2, 1, 1]


def test_equal_epochs_are_explained_in_one_number(project: Path) -> None:
    said = explain(load_config(project / "config.toml"))
    assert "steps        18 of 8 rows, 3 an epoch\n" in said.text


def test_the_run_keeps_what_the_model_phase_returns(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Backbone] = []

    def attach(self: ZeroHead, plan: Plan) -> None:
        def edit(backbone: Backbone) -> Backbone:
            made.append(backbone)
            with torch.no_grad():
                backbone.head.out.weight.fill_(0.5)  # type: ignore[union-attr, operator]
            return backbone

        plan.add(MODEL, edit)

    monkeypatch.setattr(ZeroHead, "attach", attach)
    config = load_config(project / "config.toml", ["techniques.zero_head.scale=0.0"])
    run = build(config)
    assert run.backbone is run.engine.backbone is made[0]
    assert len(made) == 1
    assert bool((run.backbone.head.out.weight == 0.5).all())  # type: ignore[union-attr]

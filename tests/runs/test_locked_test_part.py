"""The test part is locked: other test rows change no bit of what is trained, fitted and chosen."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_project import ENDINGS, TEXTS, write_project

from etude import api
from etude.config.load import load_config
from etude.data.lock import Locked
from etude.errors import RunError
from etude.runs.build import build

SETTINGS = ["train.epochs=2", "run.resamples=20", "run.report=false", "run.baselines=false"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("locked")
    write_project(folder)
    # The same label names, permuted; other words, and more of them; other lengths; three times the rows.
    rows = [
        f"{ending} h g f e d c b a now please {ending},{label}" for ending in ENDINGS[:3] for label in TEXTS
    ]
    (folder / "other.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    return folder


@pytest.fixture(scope="module")
def runs(folder: Path) -> dict[str, Path]:
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("held_out", "other"):
            settings = [*SETTINGS, f"data.test={name}.csv", f"run.dir={name}"]
            found[name] = folder / api.train("config.toml", overrides=settings).folder
    return found


def test_weights_are_the_same_to_the_bit(runs: dict[str, Path]) -> None:
    one, other = (load_file(run / "model" / "model.safetensors") for run in runs.values())
    assert len(one) > 20
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def test_decisions_and_validation_scores_are_the_same(runs: dict[str, Path]) -> None:
    def read(run: Path) -> dict[str, Any]:
        summary = json.loads((run / "summary.json").read_text())
        found = {key: summary[key] for key in ("decision", "metrics", "intervals", "calibration", "gain")}
        found |= {"logged": [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]}
        found["saved"] = json.loads((run / "model" / "etude.json").read_text())["decision"]
        return found

    one, other = (read(run) for run in runs.values())
    assert one["metrics"].pop("test") != other["metrics"].pop("test")
    for key in ("intervals", "calibration", "gain"):
        one[key].pop("test", None)
        other[key].pop("test", None)
    assert one["metrics"].keys() == {"validation"}
    for line in (*one["logged"], *other["logged"]):
        for clock in ("seconds", "rows_per_second", "time"):
            line.pop(clock, None)
    assert one == other
    files = [run / "predictions" / "validation.parquet" for run in runs.values()]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_the_test_part_cannot_be_opened_before_the_final_scoring(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    run = build(load_config("config.toml", ["run.dir=unused"]))
    assert isinstance(run.data.test, Locked)
    assert run.n_rows() == {"train": 18, "validation": 6, "test": 2}
    assert set(run.parts()) == set(run.data.texts) == set(run.data.rows) == {"train", "validation"}
    with pytest.raises(RunError, match="the test part is locked until the final scoring"):
        run.data.test.open()


def test_a_test_part_may_come_out_of_the_training_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    result = api.train("config.toml", overrides=[*SETTINGS, "data.test=0.25", "run.dir=drawn"])
    assert set(result.scores) == {"validation", "test"}
    assert json.loads(Path("drawn/summary.json").read_text())["rows"] == {
        "train": 12,
        "validation": 6,
        "test": 6,
    }

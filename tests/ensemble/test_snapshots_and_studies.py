"""Snapshots of a run with cycles, and the best runs of a study, as members and ingredients."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import etude
from etude.config.load import load_config
from etude.ensemble.from_study import best_of_study
from etude.ensemble.snapshots import cycle_ends, snapshots_of
from etude.errors import ConfigError, RunError
from etude.runs.train import train

sys.path.insert(0, str(Path(__file__).parents[1] / "runs"))
from tiny_project import etude as command
from tiny_project import write_project

FAST = ["techniques.hidden_mixup.enabled=false", "techniques.ema.enabled=false", "run.report=false"]
FAST += ["data.validation=0.5", "optimizer.lr=0.003"]
CYCLES = [
    "schedule.name='cosine_restarts'",
    "schedule.first='2ep'",
    "train.epochs=6",
    "train.save_every='2ep'",
]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_cycles_end_in_front_of_each_rise_and_not_in_a_warm_up() -> None:
    assert cycle_ends([0.1, 0.5, 1.0, 0.5, 0.1, 1.0, 0.5, 0.1]) == [5, 8]
    assert cycle_ends([1.0, 0.5, 0.2, 0.5, 1.0, 0.5, 0.2]) == [3, 7], "a rise of several steps is one"
    assert cycle_ends([1.0, 1.0, 1.0]) == [3]


def test_snapshots_are_the_models_at_the_ends_of_cycles(project: Path) -> None:
    train(load_config("config.toml", [*FAST, *CYCLES, "train.keep_checkpoints=3"]))
    made = etude.ensemble(["run"], "snapped", snapshots=True)
    names = [Path(member["run"]).name for member in made.members]
    assert len(names) == 3
    steps = [int(name.removeprefix("step-")) for name in names]
    assert steps == sorted(steps)
    last = json.loads(Path("run/summary.json").read_text())
    assert steps[-1] == last["steps"]
    assert made.members[-1]["score"] == pytest.approx(last["metrics"]["validation"]["accuracy"])
    assert etude.evaluate("snapped").rows == 2


def test_snapshots_that_are_not_there(project: Path) -> None:
    train(load_config("config.toml", [*FAST, *CYCLES, "train.keep_checkpoints=1"]))
    with pytest.raises(
        RunError, match=r"run has checkpoints after the steps .* train with train\.save_every at"
    ):
        snapshots_of([Path("run")])
    with pytest.raises(ConfigError, match="snapshots are those of one run, and 2 are named; name one"):
        snapshots_of([Path("run"), Path("run")])
    train(load_config("config.toml", [*FAST, "train.epochs=1", "run.dir='flat'"]))
    with pytest.raises(RunError, match="the schedule of flat has one cycle; snapshots need several"):
        snapshots_of([Path("flat")])


def test_the_best_runs_of_a_study_make_a_soup(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = Path("config.toml").read_text()
    lrs = "\n".join(f'[study.variants.lr{i}]\n"optimizer.lr" = {0.001 * (i + 4)}' for i in range(3))
    Path("study.toml").write_text(f'{text}\n[study]\nseeds = 1\nkeep = "models"\n{lrs}\n')
    changes = [option for change in [*FAST, "train.epochs=2"] for option in ("--set", change)]
    assert command("study", "study.toml", *changes, "--quiet") == 0
    best = best_of_study(Path("runs/study"), 3)
    scores = [json.loads((p / "summary.json").read_text())["metrics"]["validation"]["accuracy"] for p in best]
    assert scores == sorted(scores, reverse=True)
    capsys.readouterr()
    assert command("soup", "runs/study", "--top", "3", "-o", "soup", "--json", "--quiet") == 0
    made = json.loads(capsys.readouterr().out)
    assert made["method"].startswith("greedy soup of")
    assert etude.evaluate("soup").rows == 2
    with pytest.raises(RunError, match="holds models of 4 variants on one seed and 9 are wanted"):
        best_of_study(Path("runs/study"), 9)
    with pytest.raises(ConfigError, match="--top is 1 and must be at least 2"):
        best_of_study(Path("runs/study"), 1)


def test_the_best_trials_of_a_tuning_make_a_soup(project: Path) -> None:
    text = Path("config.toml").read_text()
    settings = 'trials = 5\nseeds = 0\nkeep = 3\nmetric = "loss"\n[tune.space]\n'
    space = '"optimizer.lr" = { low = 1e-4, high = 1e-2, log = true }'
    Path("tune.toml").write_text(f"{text}\n[tune]\n{settings}{space}\n")
    found = etude.tune("tune.toml", overrides=[*FAST, "train.epochs=2", "run.dir='tuned'"])
    ranked = sorted(found.record["trials"], key=lambda trial: trial["value"])
    kept = {path.name for path in Path("tuned/trials").iterdir()}
    assert kept == {f"{trial['place']:04d}" for trial in ranked[:3]}
    soup = etude.soup(["tuned"], "soup_of_trials", top=3)
    assert len(soup.members) == 3
    assert etude.evaluate("soup_of_trials").rows == 2
    again = etude.tune("tune.toml", overrides=[*FAST, "train.epochs=2", "run.dir='tuned'", "tune.trials=6"])
    assert len(again.record["trials"]) == 6
    assert len(list(Path("tuned/trials").iterdir())) == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ensemble", "a", "b"], "an ensemble of runs needs --output, its own folder"),
        (
            ["ensemble", "a", "b", "-o", "c", "--weights", "some"],
            "--weights is 'some' and must be equal or fitted",
        ),
        (
            ["ensemble", "a", "b", "-o", "c", "--set", "seed=1"],
            "--set changes a config, and these are finished runs",
        ),
        (["ensemble", "config.toml"], "an ensemble of folds needs data.folds, the number of them"),
        (["ensemble", "config.toml", "--weights", "fitted"], "are for finished runs, and this is a config"),
        (["ensemble", "a", "b", "-o", "c"], "a holds no run: there is no config.toml in it"),
        (
            ["soup", "a", "b", "--top", "3", "-o", "c"],
            "--top takes the runs of one study, and 2 folders are named",
        ),
        (["study", "config.toml"], "there is no [study] section, which says what to compare"),
        (["study", "config.toml", "--budget", "soon"], "'soon' is no duration: write seconds as"),
    ],
)
def test_a_mistake_is_one_line(
    project: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert command(*arguments) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert words in lines[0]

"""``etude tune`` on real trainings: what it writes, how it goes on, what it refuses, and the winner's run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import optuna
import pytest
from sqlalchemy.exc import OperationalError

import etude
from etude.config.load import load_config
from etude.core.observe import Reporter
from etude.errors import EtudeError, RunError
from etude.search.storage import as_run_error
from runs.tiny_project import CONFIG, write_project
from runs.tiny_project import etude as command

PLAIN = CONFIG.replace("[techniques.hidden_mixup]\n", "").replace("[techniques.ema]\n", "")
QUICK = ["train.epochs=2", "train.evaluate_every='1ep'", "run.report=false", "run.resamples=20"]
SPACE = {"optimizer.lr": {"low": 1e-5, "high": 1e-1, "log": True}, "train.batch_size": [4, 8]}


class Told(Reporter):
    """Keeps what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)

    warn = line


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    write_project(folder)
    (folder / "plain.toml").write_text(PLAIN)
    return folder


@pytest.fixture(autouse=True)
def inside(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)


def tune(
    directory: str, *overrides: str, space: Any = SPACE, told: Told | None = None, **settings: Any
) -> Any:
    chosen = {"trials": 4, "seeds": 0, "metric": "loss", "space": fixed() | space} | settings
    table = json.loads(load_config("plain.toml").model_dump_json(exclude_none=True))
    return etude.tune(
        {**table, "tune": chosen}, overrides=[*QUICK, f"run.dir='{directory}'", *overrides], reporter=told
    )


def fixed() -> dict[str, bool]:
    """Leave what the recommended techniques declare as it is."""
    names = ("clip.max_norm", "head_lr.factor", "linear_probe.C", "warmup.start")
    return {f"techniques.{name}": False for name in names} | {
        "optimizer.eps": False,
        "optimizer.weight_decay": False,
    }


def test_a_study_from_the_first_trial_to_the_page() -> None:
    told = Told()
    found = tune("whole", trials=6, seeds=2, told=told)
    record = json.loads(Path("whole/study.json").read_text())
    assert record == json.loads(json.dumps(found.record))
    phases = [trial["phase"] for trial in record["trials"]]
    assert phases == ["default", "explore", "explore", "explore", "exploit", "exploit"]
    assert record["trials"][0]["settings"] == {}
    assert record["default"] == record["trials"][0]["value"]
    values = [trial["value"] for trial in record["trials"]]
    assert record["best"]["value"] == min(values) < values[0]
    assert all(trial["state"] == "complete" for trial in record["trials"])
    assert any(
        line == "exploration is over after 4 trials; from here tpe proposes settings" for line in told.lines
    )
    confirmation = record["confirmation"]
    assert confirmation["seeds"] == [1, 2]
    assert len(confirmation["default"]) == len(confirmation["winner"]) == 2
    page = Path("whole/study.html").read_text(encoding="utf-8")
    assert "Tuning of whole" in page
    assert confirmation["sentence"][1:] in page
    winner = load_config("whole/best.toml")
    assert winner.run.dir == "whole/best"
    assert winner.optimizer["lr"] == found.best["optimizer.lr"]
    assert winner.train.batch_size == found.best["train.batch_size"]
    assert not Path("whole/model").exists()


def test_the_same_command_goes_on_and_more_trials_are_added() -> None:
    first = tune("again")
    told = Told()
    second = tune("again", told=told)
    assert second.record == first.record
    assert not any(line.startswith("trial ") for line in told.lines)
    third = tune("again", trials=6)
    assert [t["value"] for t in third.record["trials"][:4]] == [t["value"] for t in first.record["trials"]]
    assert len(third.record["trials"]) == 6


def test_trials_are_deterministic_and_read_nothing_of_the_test_part(project: Path) -> None:
    one = tune("one")
    before = Path("held_out.csv").read_text()
    Path("held_out.csv").write_text("text,label\n" + "now a b c,refund\nnow d e f,order\n" * 3)
    try:
        other = tune("other")
    finally:
        Path("held_out.csv").write_text(before)
    assert [t["value"] for t in one.record["trials"]] == [t["value"] for t in other.record["trials"]]


def test_another_space_other_data_and_another_config_are_refused(project: Path) -> None:
    tune("first", trials=2)
    cases: list[tuple[dict[str, Any], str]] = [
        (
            {"space": {**SPACE, "train.batch_size": [4, 16]}},
            "the study first in first/study.db has another search space: train.batch_size was 4, 8",
        ),
        (
            {"overrides": ["train.epochs=3"]},
            "was made with another config: train.epochs was 2 and is 3; put it back",
        ),
        ({"metric": "accuracy"}, 'was made with another config: tune.metric was "loss" and is "accuracy"'),
    ]
    for changes, words in cases:
        with pytest.raises(RunError) as refused:
            tune("first", *changes.pop("overrides", []), trials=2, **changes)
        assert words in str(refused.value)
    rows = Path("messages.csv").read_text()
    Path("messages.csv").write_text(rows + "where is my parcel h,order\n")
    try:
        with pytest.raises(RunError, match=r"the study first in first/study\.db was made on other data"):
            tune("first", trials=2)
    finally:
        Path("messages.csv").write_text(rows)


def test_trials_that_diverge_are_failed_and_the_study_goes_on() -> None:
    told = Told()
    space = {"optimizer.lr": [1e-4, 1e30]}
    found = tune("diverging", space=space, mode="grid", trials=None, told=told)
    states = [trial["state"] for trial in found.record["trials"]]
    assert states == ["complete", "complete", "failed"]
    assert "diverged" in found.record["trials"][2]["why"]
    assert any("trial 3 of 3 (grid) failed: diverged" in line for line in told.lines)
    assert "Failures" in Path("diverging/study.html").read_text(encoding="utf-8")


def test_a_study_whose_first_trials_all_fail_ends() -> None:
    with pytest.raises(
        RunError, match=r"the first 3 trials all failed, the last with: diverged.*mend the config"
    ):
        tune("hopeless", "optimizer.lr=1e30", space={"optimizer.lr": [1e29, 1e30]}, trials=8)


def test_a_funnel_lets_the_best_go_on_to_more_rows() -> None:
    told = Told()
    found = tune("funnel", trials=6, funnel=[0.5], survivors=0.4, told=told)
    stages = [trial["stage"] for trial in found.record["trials"]]
    assert stages == ["9 rows"] * 6 + ["all rows"] * 3
    assert "3 of 6 trials go on to more rows" in told.lines
    small, whole = found.record["trials"][:6], found.record["trials"][6:]
    kept = sorted(small, key=lambda trial: trial["value"])[:3]
    assert sorted(map(str, (t["settings"] for t in kept))) == sorted(map(str, (t["settings"] for t in whole)))
    assert found.record["best"]["stage"] == "all rows"


def test_one_setting_after_the_other() -> None:
    found = tune("single", mode="one_at_a_time", trials=None, points=2)
    settings = [trial["settings"] for trial in found.record["trials"]]
    assert settings == [{}, {"optimizer.lr": 1e-5}, {"optimizer.lr": 0.1}, {"train.batch_size": 4}]


def test_scientific_settings_are_compared() -> None:
    found = tune("scientific", trials=5, explore=4, roles={"scientific": ["train.batch_size"]})
    assert {row["values"]["train.batch_size"]: row["trials"] for row in found.record["scientific"]} == {
        4: 2,
        8: 2,
    }
    assert "The comparison that was asked for" in Path("scientific/study.html").read_text(encoding="utf-8")


def test_a_timeout_begins_no_further_trial() -> None:
    with pytest.raises(RunError, match="none of the 0 trials came to an end"):
        tune("late", timeout="0.001s")
    assert len(tune("late").record["trials"]) == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tune.trials=0"], "plain.toml: tune.trials is 0 and must be a whole number of at least 1"),
        (["tune.metric='f1_marco'"], "metric 'f1_marco' is unknown; did you mean 'f1_macro'?"),
        (["data.validation=false"], "tune compares trials on the validation part, and there is none"),
        (["run.dir='tiny'"], "tiny exists and is no study's folder; choose another with --set run.dir=NAME"),
        (["run.dir='plain.toml/x'"], "the study's folder plain.toml/x cannot be made: Not a directory"),
        (["tune.storage='sqlite:////nowhere/x.db'"], "the storage sqlite:////nowhere/x.db cannot be opened"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = [word for argument in ["run.dir='bad'", *arguments] for word in ("--set", argument)]
    assert command("tune", "plain.toml", "--quiet", *said) == 2
    assert words in capsys.readouterr().err
    shutil.rmtree("bad", ignore_errors=True)


def test_the_command_prints_the_winner_and_retrain_trains_it(capsys: pytest.CaptureFixture[str]) -> None:
    quick = [word for change in (*QUICK, "run.dir='cli'") for word in ("--set", change)]
    assert command("tune", "plain.toml", *quick, "--set", "tune.trials=3", "--set", "tune.seeds=0") == 0
    assert "next:\n  etude retrain --best cli" in capsys.readouterr().out
    assert command("retrain", "--best", "cli", "--quiet", "--json") == 0
    run = json.loads(capsys.readouterr().out)
    assert run["folder"] == "cli/best"
    assert set(run["scores"]) == {"validation", "test"}
    assert command("retrain", "--best", "cli", "--on-all-data", "--quiet", "--json") == 0
    assert set(json.loads(capsys.readouterr().out)["scores"]) == {"test"}
    config = load_config("cli/best-all-data/config.toml")
    assert config.data.validation is False
    summary = json.loads(Path("cli/best-all-data/summary.json").read_text())
    assert summary["rows"]["train"] == 24
    assert command("retrain", "--best", "nowhere", "--quiet") == 2
    assert "nowhere holds no study: there is no study.json in it" in capsys.readouterr().err
    assert command("retrain", "--quiet") == 2
    assert "retrain takes either --epochs-from RUN or --best STUDY" in capsys.readouterr().err


def test_all_data_of_two_files_are_joined() -> None:
    rows = Path("messages.csv").read_text().splitlines(keepends=True)
    Path("dev.csv").write_text("".join([rows[0], *rows[1:7]]))
    Path("rest.csv").write_text("".join([rows[0], *rows[7:]]))
    tune("files", "data.train='rest.csv'", "data.validation='dev.csv'", trials=2)
    result = etude.retrain_best("files", on_all_data=True)
    summary = json.loads((result.folder / "summary.json").read_text())
    assert summary["rows"]["train"] == len(rows) - 1
    Path("files/study.json").write_text("{")
    with pytest.raises(EtudeError, match=r"files/study\.json cannot be read"):
        etude.retrain_best("files")


def test_what_a_library_makes_of_a_refusal_is_one_sentence_too() -> None:
    internal = optuna.exceptions.StorageInternalError("during the commit")
    internal.__cause__ = OperationalError("commit", {}, ConnectionError("connection is bad"))
    stumbled = UnboundLocalError("updated_state")  # as Optuna's own, where it cannot tell of a trial's end
    stumbled.__context__ = internal
    words = "the storage there cannot be opened: connection is bad; see"
    with pytest.raises(RunError, match=words), as_run_error("there"):
        raise stumbled
    with pytest.raises(UnboundLocalError), as_run_error("there"):
        raise UnboundLocalError("of another kind")
    with pytest.raises(RunError, match=r"^our own$"), as_run_error("there"):
        raise RunError("our own")

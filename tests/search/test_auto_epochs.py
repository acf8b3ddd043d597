"""The search for the number of epochs: what is trained, what is kept, how it goes on, what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "runs"))
from tiny_project import CONFIG, etude, write_project

from etude import api
from etude.config.load import load_config
from etude.errors import ConfigError, Interrupted, RunError
from etude.search import auto_epochs
from etude.search.auto_epochs import train_auto_epochs

QUICK = ["run.report=false", "run.resamples=20"]
PLAIN = CONFIG.replace("[techniques.hidden_mixup]\n", "").replace("[techniques.ema]\n", "")
RISING = [*QUICK, "train.epochs=1", "techniques.linear_probe.enabled=false", "optimizer.lr=3e-3", "seed=3"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_project(tmp_path)
    (tmp_path / "config.toml").write_text(PLAIN.replace('evaluate_every = "6st"', 'evaluate_every = "1ep"'))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def finished(folder: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(folder, "summary.json").read_text())
    return found


def test_the_run_is_trained_again_to_its_peak(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = [argument for setting in QUICK for argument in ("--set", setting)]
    assert etude("train", "config.toml", "--auto-epochs", "--quiet", *settings) == 0
    said = capsys.readouterr().out
    found = api.resume("run")
    assert isinstance(found, api.AutoEpochs)
    long, again = found.runs
    assert long.epochs == 6
    assert again.epochs == long.best_epoch < 6
    assert again.retrained
    assert finished(f"run/epochs-{again.epochs}")["steps"] == 3 * again.epochs
    assert found.change is not None
    assert found.kept.score == max(run.score for run in found.runs)
    assert f"epochs-{again.epochs}" in said
    assert "retrained less long" in said
    assert json.loads(Path("run/auto_epochs.json").read_text())["result"] == found.to_json()


def test_a_run_that_still_rises_is_extended(project: Path) -> None:
    found = train_auto_epochs(load_config("config.toml", RISING), rounds=2)
    lengths = {run.epochs for run in found.runs}
    assert lengths in ({1, 2}, {1, 2, 3})
    assert json.loads(Path("run/auto_epochs.json").read_text())["config"]["train"]["epochs"] == 1


def test_no_more_rounds_than_allowed(project: Path) -> None:
    found = train_auto_epochs(load_config("config.toml", RISING), rounds=0)
    assert [run.epochs for run in found.runs] == [1]
    assert found.kept.epochs == 1
    assert found.change is None
    assert "more epochs may be better" in found.table()


def test_a_stopped_search_goes_on_where_it_was(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config("config.toml", QUICK)
    calls: list[str] = []
    real = auto_epochs.train

    def once(config: Any, **more: Any) -> Any:
        calls.append(config.run.dir)
        if len(calls) == 2:
            raise Interrupted("stopped after step 2; go on with: etude resume run/epochs-2")
        return real(config, **more)

    monkeypatch.setattr(auto_epochs, "train", once)
    with pytest.raises(Interrupted, match=r"stopped after step 2 in .*; go on with: etude resume run$"):
        train_auto_epochs(config)
    train_auto_epochs(config)
    assert calls[0] == "run/epochs-6"
    assert calls.count("run/epochs-6") == 1
    train_auto_epochs(config)
    assert len(calls) == 3


def test_what_is_no_search_is_refused(project: Path) -> None:
    for setting, words in {
        "data.validation=false": "--auto-epochs looks where the validation score is best",
        "train.max_steps=5": r"train.max_steps = 5 limits it; remove one of the two",
    }.items():
        with pytest.raises(ConfigError, match=words):
            train_auto_epochs(load_config("config.toml", [setting]))
    train_auto_epochs(load_config("config.toml", RISING), rounds=0)
    with pytest.raises(RunError, match=r"run holds a search of epochs with other settings of seed; put them"):
        train_auto_epochs(load_config("config.toml", [*RISING, "seed=4"]), rounds=0)
    Path("other").mkdir()
    Path("other/file").write_text("mine")
    with pytest.raises(RunError, match="other exists and is no run's folder"):
        train_auto_epochs(load_config("config.toml", [*RISING, "run.dir='other'"]))

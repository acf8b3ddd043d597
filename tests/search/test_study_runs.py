"""A study of a tiny project: paired runs, what is found again, what is refused, what fails and goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from etude.config.load import load_config
from etude.config.study import read_study
from etude.core.observe import Reporter
from etude.errors import ConfigError, Interrupted, RunError
from etude.runs.build import build
from etude.runs.train import train
from etude.search import study as study_module
from etude.search.run_store import RunStore
from etude.search.study import Study, StudyResult, run_study

sys.path.insert(0, str(Path(__file__).parents[1] / "runs"))
from tiny_project import write_project

FAST = [
    "techniques.hidden_mixup.enabled=false",
    "techniques.ema.enabled=false",
    "techniques.freeze.until='1dur'",
    "train.epochs=2",
    "optimizer.lr=0.02",
    "data.validation=0.5",
]


class Lines(Reporter):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def line(self, text: str) -> None:
        self.said.append(text)

    def warn(self, text: str) -> None:
        self.said.append(f"warning: {text}")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def study(*overrides: str, **more: Any) -> StudyResult:
    settings, base = read_study("config.toml", [*FAST, *overrides])
    return run_study(settings, base, **more)


def records(folder: str = "runs/study") -> dict[str, dict[str, Any]]:
    return {file.stem: json.loads(file.read_text()) for file in sorted(Path(folder, "runs").glob("*.json"))}


def test_a_study_scores_what_runs_alone_score(project: Path) -> None:
    found = study("study.techniques=['label_smoothing','linear_probe']", "study.seeds=2")
    assert len(records()) == 6
    for seed in (0, 1):
        alone = train(load_config("config.toml", [*FAST, f"seed={seed}", f"run.dir='alone{seed}'"]))
        assert found.base_scores[seed] == alone.scores["validation"]["accuracy"]
    by_name = {finding.name: finding for finding in found.findings}
    assert (by_name["label_smoothing"].role, by_name["linear_probe"].role) == ("added", "removed")
    probe = by_name["linear_probe"]
    effects = [found.base_scores[seed] - probe.scores[seed] for seed in (0, 1)]
    assert probe.effects == pytest.approx(effects)
    assert probe.effect is not None
    assert probe.effect.mean == pytest.approx(np.mean(effects))
    json.dumps(found.to_json())


def test_a_seed_pairs_all_variants(project: Path) -> None:
    """The same split, the same first head and the same order of rows, whatever a variant adds."""
    overrides = ["techniques.ema.enabled=true", "techniques.freeze.enabled=false", "loss.name='focal'"]
    base, variant = (build(load_config("config.toml", [*FAST, *more])) for more in ([], overrides))
    for part, rows in base.data.rows.items():
        assert np.array_equal(rows, variant.data.rows[part])
    for name, value in base.backbone.head.state_dict().items():
        assert torch.equal(value, variant.backbone.head.state_dict()[name])
    moment = base.engine.moment()
    one, other = (run.engine._feed.epoch(moment)[1] for run in (base, variant))
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_what_is_done_is_found_again_and_seeds_may_be_added(project: Path) -> None:
    study("study.techniques=['label_smoothing']", "study.seeds=2")
    before = {file: file.stat().st_mtime_ns for file in Path("runs/study/runs").glob("*.json")}
    again = study(
        "study.techniques=['label_smoothing','clip']", "study.seeds=3", "data.train='./messages.csv'"
    )
    assert all(file.stat().st_mtime_ns == then for file, then in before.items())
    assert len(records()) == 9
    assert again.findings[0].seeds == [0, 1, 2]


def test_another_base_and_other_data_are_refused_with_what_differs(project: Path) -> None:
    study("study.techniques=['label_smoothing']", "study.seeds=1")
    with pytest.raises(
        RunError, match=r"holds a study of another base: optimizer\.lr was 0\.02 and is 0\.5; put"
    ):
        study("study.techniques=['label_smoothing']", "optimizer.lr=0.5")
    text = Path("messages.csv").read_text()
    Path("messages.csv").write_text(text.replace("where is my parcel a,order", "where is my money a,order"))
    with pytest.raises(RunError, match=r"holds a study of other data: the rows of messages\.csv or of its"):
        study("study.techniques=['label_smoothing']")
    Path("messages.csv").write_text(text)
    Path("runs/study/study.json").write_text("[")
    with pytest.raises(RunError, match=r"study\.json cannot be read"):
        study("study.techniques=['label_smoothing']")


def test_a_run_that_fails_is_recorded_and_the_study_goes_on(project: Path) -> None:
    reporter = Lines()
    found = study(
        "study.variants.wild.optimizer.lr=1e30",
        "study.variants.unsuited.techniques.mixup.alpha=0.2",
        "study.seeds=2",
        reporter=reporter,
    )
    by_name = {finding.name: finding for finding in found.findings}
    assert by_name["unsuited"].verdict == "failed"
    assert "mixup needs a backbone with 'mixable'" in by_name["unsuited"].sentence
    assert len(found.base_scores) == 2
    assert any(line.startswith("warning: seed 0, unsuited: failed: mixup") for line in reporter.said)
    assert len(records()) == 6


def test_a_base_without_a_score_is_an_error(project: Path) -> None:
    with pytest.raises(
        RunError, match="no run of the base came to a score, so that nothing can be compared: mixup"
    ):
        study("techniques.mixup.alpha=0.2", "study.techniques=['label_smoothing']", "study.seeds=1")


def test_the_test_part_is_opened_in_the_end_and_once(project: Path) -> None:
    closed = study("study.techniques=['label_smoothing']", "study.seeds=2")
    assert closed.test is None
    assert not any("test" in record for record in records().values())
    reporter = Lines()
    opened = study("study.techniques=['label_smoothing']", "study.seeds=2", test=True, reporter=reporter)
    assert reporter.said[-1] == "every run is done; the test part is opened now, for all variants at once"
    assert opened.base == closed.base
    assert opened.test is not None
    for seed in (0, 1):
        alone = train(load_config("config.toml", [*FAST, f"seed={seed}", f"run.dir='alone{seed}'"]))
        assert alone.scores["test"]["accuracy"] in [r["test"]["accuracy"] for r in records().values()]
    assert not list(Path("runs/study/runs").glob("*/model"))
    before = records()
    study("study.techniques=['label_smoothing']", "study.seeds=2", test=True)
    assert records() == before
    settings, base = read_study("config.toml", [*FAST, "study.techniques=['clip']"])
    del base["data"]["test"]
    with pytest.raises(ConfigError, match=r"--test opens the test part, and data\.test is not set"):
        run_study(settings, base, test=True, folder=Path("other"))


def test_models_are_kept_where_they_are_wanted(project: Path) -> None:
    study("study.techniques=['label_smoothing']", "study.seeds=1", "study.keep='models'")
    assert len(list(Path("runs/study/runs").glob("*/model/model.safetensors"))) == 2


def test_a_small_budget_gives_two_seeds_to_all_and_says_so(project: Path) -> None:
    changes = [
        "study.techniques=['label_smoothing','clip','head_lr']",
        "study.seeds=8",
        "study.budget='0.01s'",
    ]
    found = study(*changes)
    assert {len(finding.seeds) for finding in found.findings} == {2}, "which are given whatever they cost"
    assert found.notes[0].startswith(
        "A budget of 0.01s gave out seeds by successive halving: 3 variants up to 2"
    )
    assert "Variants with fewer seeds were behind the others" in found.notes[0]


def test_what_is_left_of_a_budget_goes_to_the_better_half(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run counts for a tenth of a second, so that the test does not depend on how fast the machine is."""

    def spent(running: Study) -> float:
        return 0.1 * sum(map(len, running.records.values()))

    monkeypatch.setattr(Study, "spent", spent)
    changes = ["study.techniques=['label_smoothing','clip','head_lr']", "study.seeds=8"]
    found = study(*changes, "study.budget='1.05s'")
    assert sorted(len(finding.seeds) for finding in found.findings) == [2, 3, 3]
    assert "3 variants up to 2 seeds, then 2 variants up to 3 seeds" in found.notes[0]


def test_a_large_budget_gives_all_seeds_to_all(project: Path) -> None:
    found = study("study.techniques=['label_smoothing','clip']", "study.seeds=3", "study.budget='1h'")
    assert [len(finding.seeds) for finding in found.findings] == [3, 3]
    assert "behind" not in found.notes[0]


def test_a_run_that_another_process_trains_is_left_to_it(project: Path) -> None:
    study("study.techniques=['label_smoothing']", "study.seeds=1")
    (key,) = [k for k, record in records().items() if "label_smoothing" in record["plan"]]
    Path(f"runs/study/runs/{key}.json").unlink()
    with RunStore(Path("runs/study")).claim(key) as died:
        assert died == 0
        found = study("study.techniques=['label_smoothing']", "study.seeds=1")
    assert found.running == 1
    assert key not in records()


def test_a_run_whose_process_died_twice_counts_as_failed(project: Path) -> None:
    study("study.techniques=['label_smoothing']", "study.seeds=1")
    (key,) = [k for k, record in records().items() if "label_smoothing" in record["plan"]]
    Path(f"runs/study/runs/{key}.json").unlink()
    Path(f"runs/study/runs/{key}.lock").write_text("xx")
    found = study("study.techniques=['label_smoothing']", "study.seeds=1")
    assert "its process died 2 times while it ran" in found.findings[0].sentence


def test_ctrl_c_says_how_to_go_on(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(study_module, "recorded_run", stop)
    with pytest.raises(
        Interrupted, match=r"stopped; what is done is kept in runs/study, so go on by running"
    ):
        study("study.techniques=['label_smoothing']")
    assert not list(Path("runs/study/runs").iterdir())


def test_a_kill_loses_the_running_run_and_no_other(project: Path) -> None:
    changes = [*FAST, "study.techniques=['label_smoothing','clip']", "study.seeds=3"]
    program = (
        "from etude.config.study import read_study\nfrom etude.search.study import run_study\n"
        f"settings, base = read_study('config.toml', {changes!r})\nrun_study(settings, base)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 60
    while len(list(Path("runs/study/runs").glob("*.json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = records()
    assert 2 <= len(before) < 9
    resumed = study(*changes[len(FAST) :])
    assert {key: record for key, record in records().items() if key in before} == before
    assert not list(Path("runs/study/runs").glob("*.lock"))
    whole = study(*changes[len(FAST) :], folder=Path("whole"))
    assert [f.effects for f in resumed.findings] == [f.effects for f in whole.findings]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["study.techniques=['emma']"], "there is no technique 'emma'; did you mean 'ema'?"),
        (["study.techniques=['adamw']"], "study.techniques names 'adamw', which is the base's optimizer"),
        (
            ["study.variants.x.train.epoch=3"],
            "the variant 'x' cannot be trained: unknown key 'epoch' in [train]",
        ),
        (["study.variants.x.train.epochs=2"], "the variant 'x' has the same settings as the base"),
        (
            ["study.variants.x.loss.name='focal'", "study.techniques=['focal']"],
            "the variant 'focal' has the same settings as 'x'",
        ),
        (
            ["study.variants.clip.loss.name='focal'", "study.techniques=['clip']"],
            "two variants are called 'clip'; rename one of them",
        ),
        (["study.techniques=['clip']", "data.validation=false"], "and data.validation is false; set it"),
        (["study.techniques=['clip']", "study.metric='f1_makro'"], "f1_makro"),
    ],
)
def test_what_is_wrong_is_said_before_any_training(project: Path, changes: list[str], words: str) -> None:
    with pytest.raises(ConfigError) as error:
        study(*changes)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert not records()


def test_a_folder_that_cannot_be_made(project: Path) -> None:
    Path("taken").write_text("")
    with pytest.raises(
        RunError, match=r"the study's folder taken cannot be made: .*; choose another with --dir"
    ):
        study("study.techniques=['clip']", folder=Path("taken"))

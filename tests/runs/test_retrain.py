"""A run again with the epochs of its best score: a real one, its comparison, and what is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny_project import CONFIG, etude, write_project

from etude.runs.losses import read_losses
from etude.runs.retrain import retrain

QUICK = ["run.report=false", "run.baselines=false", "run.resamples=20"]
PLAIN = CONFIG.replace("[techniques.hidden_mixup]\n", "").replace("[techniques.ema]\n", "")


def trained(folder: Path, *overrides: str) -> None:
    said = [argument for override in (*QUICK, *overrides) for argument in ("--set", override)]
    assert etude("train", "config.toml", "--quiet", *said) == 0


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a run of six epochs, whose score is the best after two of them."""
    folder = tmp_path_factory.mktemp("project")
    write_project(folder)
    (folder / "config.toml").write_text(PLAIN)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        trained(folder)
    return folder


@pytest.fixture(autouse=True)
def inside(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)


def summary(folder: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(folder, "summary.json").read_text())
    return found


def test_the_new_run_ends_where_the_old_one_was_best(capsys: pytest.CaptureFixture[str]) -> None:
    assert etude("retrain", "--epochs-from", "run", "--quiet") == 0
    said = capsys.readouterr().out
    assert summary("run")["steps"] == 18
    assert summary("run-2ep")["steps"] == 6
    rates = [json.loads(line).get("lr") for line in Path("run-2ep/metrics.jsonl").read_text().splitlines()]
    ends = [max(rate.values()) for rate in rates if rate]
    assert ends[-1] < max(ends) / 3, "the schedule ends with the run"
    assert "run           6  1.0000" in said
    assert "run-2ep       2  1.0000" in said
    assert "difference +0.0000 (+0.0000 to +0.0000), within the noise" in said


def test_other_settings_and_another_folder(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--dir", "other", "--set", "seed=1", "--json", "--quiet"]
    assert etude("retrain", "--epochs-from", "run", *arguments) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["old"], said["new"], said["epochs"], said["old_epochs"]) == ("run", "other", 2, 6)
    assert said["before"] == 1.0
    # Another seed draws another validation part, so that the two cannot be compared row by row.
    assert (said["difference"], said["beyond_noise"]) == (None, None)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("summary", "the run broken is not finished; finish it with: etude resume broken"),
        (
            "validation",
            "the run broken has no validation part, so that no epoch of it is known to be the best",
        ),
        ("history", "the run broken logged no accuracy of its validation part; train it again with"),
        ("late", "the best epoch of broken is already its last, 6 of 6, so that there is nothing to retrain"),
        ("torn", "broken/summary.json cannot be read: "),
    ],
)
def test_what_cannot_be_retrained_is_refused(
    damage: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree("broken", ignore_errors=True)
    shutil.copytree("run", "broken")
    broken = Path("broken")
    if damage == "summary":
        (broken / "summary.json").unlink()
    elif damage == "torn":
        (broken / "summary.json").write_text("{")
    elif damage == "validation":
        (broken / "summary.json").write_text(json.dumps({**summary("run"), "metrics": {}}))
    elif damage == "history":
        (broken / "metrics.jsonl").write_text("")
    else:
        best = {"step": 18, "epoch": 6, "validation": {"accuracy": 1.1}}
        with (broken / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(best) + "\n")
    assert etude("retrain", "--epochs-from", "broken", "--quiet") == 2
    assert words in capsys.readouterr().err
    assert not Path("broken-2ep").exists()


def test_no_run_and_no_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert etude("retrain", "--epochs-from", "nowhere") == 2
    assert "nowhere holds no run" in capsys.readouterr().err
    assert etude("retrain") == 2


def test_a_folder_that_is_used_is_refused_before_training() -> None:
    from etude.errors import RunError

    with pytest.raises(RunError, match="run already holds a run"):
        retrain(Path("run"), directory="run")


def test_the_losses_of_all_rows_are_kept_with_their_labels() -> None:
    losses = read_losses(Path("run"))
    assert losses is not None
    assert losses.losses.shape == (18, 6)
    assert losses.losses[:, 0].mean() > losses.losses[:, -1].mean() > 0
    refunds = [text.startswith("give me my money back") for text in losses.texts]
    assert [names == ["refund"] for names in losses.labels] == refunds
    assert sorted(set(losses.rows.tolist())) == sorted(losses.rows.tolist())
    assert read_losses(Path("nowhere")) is None
    assert {"dynamics", "train", "validation"} <= {
        key for line in Path("run/metrics.jsonl").read_text().splitlines() for key in json.loads(line)
    }


def test_damaged_losses_are_named(tmp_path: Path) -> None:
    from etude.errors import RunError

    (tmp_path / "losses.parquet").write_text("no parquet")
    with pytest.raises(RunError, match=r"losses\.parquet cannot be read: .*; remove it to do without"):
        read_losses(tmp_path)

"""What a user can get wrong: one sentence that names it, exit code 2, and nothing left behind."""
# ruff: noqa: E501 - the tables hold whole sentences

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_project import etude, write_project

from etude import api
from etude.core.checkpoint import checkpoints
from etude.core.observe import Bar, Reporter
from etude.errors import Interrupted

HEADER = "text,label\n"

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    write_project(folder)
    return folder


@pytest.fixture
def project(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project without runs, as the working folder."""
    for file in written.iterdir():
        (tmp_path / file.name).symlink_to(file)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(capsys: Capture, *arguments: str) -> str:
    """Run a command that must be refused, and return its one line without the word ``error:``."""
    capsys.readouterr()
    assert etude(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    return err.removeprefix("error: ").strip()


def train_refusal(capsys: Capture, *settings: str) -> str:
    overrides = [word for setting in settings for word in ("--set", setting)]
    message = refusal(capsys, "train", "config.toml", "--quiet", *overrides)
    assert not Path("run").exists()
    return message


DATA = {
    "a missing column": ("a.csv", "texts,label\na,order\nb,refund\n", "a.csv has no column 'text'; did you mean 'texts'?; its columns are texts, label"),
    "an empty file": ("a.csv", "", "a.csv holds no rows; give a file with at least one example"),
    "a header only": ("a.csv", HEADER, "a.csv holds no rows; give a file with at least one example"),
    "an empty text": ("a.csv", HEADER + "a,order\n ,refund\n", "a.csv, row 2, column 'text' has an empty text; write a text there, or remove the row"),
    "a null text": ("a.jsonl", '{"text": "a", "label": "order"}\n{"text": null, "label": "refund"}\n', "a.jsonl, line 2, column 'text' has no text; write a text there, or remove the row"),
    "a null label": ("a.jsonl", '{"text": "a", "label": "order"}\n{"text": "b", "label": null}\n', "a.jsonl, line 2, column 'label' has no label"),
    "an empty label": ("a.csv", HEADER + "a,order\nb,\n", "a.csv, row 2, column 'label' has no label"),
    "one class": ("a.csv", HEADER + "a,order\nb,order\n", "a.csv, column 'label' holds only one class, 'order', in all 2 rows; a classifier needs at least two"),
    "a 0/1 list too short": ("a.jsonl", '{"text": "a", "label": [0, 1, 0]}\n{"text": "b", "label": [1, 0, 0]}\n{"text": "c", "label": [0, 1]}\n', "a.jsonl, line 3, column 'label' holds a list of 2 zeros and ones, and 3 are expected, one for each label"),
    "mixed types": ("a.jsonl", '{"text": "a", "label": "order"}\n{"text": "b", "label": 3}\n', "a.jsonl, line 2, column 'label'"),
    "not UTF-8": ("a.csv", HEADER.encode() + b"a,order\ncaf\xe9,refund\n", "a.csv, line 3 is not UTF-8: byte 4 of the line is 0xe9; save the file as UTF-8"),
    "malformed jsonl": ("a.jsonl", '{"text": "a", "label": "order"}\n{"text": "b", "label": \n', "a.jsonl, line 2 is no valid JSON (Expecting value at character 24); write one JSON object on each line"),
    "a field too many": ("a.csv", HEADER + "a,order\nb, c,refund\n", "a.csv, row 2 has 3 field(s) and the header has 2; quote fields that hold commas"),
    "two rows": ("a.csv", HEADER + "a,order\nb,refund\n", "data.validation = 0.25 of 2 rows is no row at all; give a larger fraction, or leave the part out"),
    "a wrong suffix": ("a.txt", "a\n", "a.txt ends in '.txt' and a csv, tsv, jsonl, json or parquet file is needed"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "content", "words"), DATA.values(), ids=DATA.keys())
def test_training_data(name: str, content: str | bytes, words: str, project: Path, capsys: Capture) -> None:
    Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
    assert train_refusal(capsys, f"data.train={name}").startswith(words)


SETTINGS = {
    "a missing file": (["data.train=gone.csv"], "there is no file gone.csv; give a csv, tsv, jsonl, json or parquet file, or a hub data set as 'owner/name' or 'name:split'"),
    "an unknown key": (["train.epoch=3"], "config.toml: unknown key 'epoch' in [train]; did you mean 'epochs'?"),
    "an unknown section": (["trains.epochs=3"], "config.toml: unknown key 'trains'; did you mean 'train'?"),
    "out of bounds": (["train.epochs=0"], "config.toml: train.epochs"),
    "a technique's bounds": (["techniques.ema.decay=2"], "techniques.ema.decay"),
    "an unknown technique": (["techniques.emma.decay=0.9"], "there is no technique 'emma'; did you mean 'ema'?"),
    "a technique's unknown key": (["techniques.ema.decai=0.9"], "unknown key 'decai' in [techniques.ema]; did you mean 'decay'?"),
    "an unknown optimizer": (["optimizer.name=adamv"], "[optimizer] name = 'adamv' is unknown"),
    "two rises": (["techniques.warmup.duration=0.1dur", "schedule.name=one_cycle"], "warmup clashes with one_cycle: one_cycle begins with a rise of its own; remove one of them"),
    "two schedules": (["techniques.cosine.enabled=true", "schedule.name=linear"], '[techniques.cosine] belongs into [schedule] as name = "cosine"'),
    "mixing and hard examples": (["techniques.hard_examples.share=0.5"], "hard_examples clashes with hidden_mixup: the loss of a mixed example is high because it is mixed"),
    "no such folder": (["backbone.path=./nowhere"], "backbone.path = './nowhere' does not exist; give a folder, a hub id or 'pkg:PACKAGE'"),
    "no such package": (["backbone.path=pkg:no-such-weights"], "backbone.path = 'pkg:no-such-weights' names a package that is not installed or carries no model"),
    "no network": (["backbone.path=nobody/nothing"], "backbone.path = 'nobody/nothing' cannot be opened"),
    "no network for data": (["data.train=nobody/nothing"], "nobody/nothing is no file here and could not be read from the hub"),
    "texts too long": (["backbone.max_length=1000"], "backbone.max_length is 1000 and 'tiny' has positions for 512 tokens; set backbone.max_length = 512"),
    "no such fold": (["data.folds=3", "data.fold=3"], "config.toml: data: fold = 3 is none of 3 folds, which are counted from 0; give at most 2"),
    "no such group column": (["data.group=user"], "messages.csv has no column 'user'; its columns are text, label"),
    "a label that no row has": (["data.out_of_scope=orders"], "data.out_of_scope = 'orders' is the label of no row of messages.csv, held_out.csv; did you mean 'order'?"),
    "all rows but none": (["data.validation=1.0"], "config.toml: data.validation is 1.0 and must be a whole number above 0, a number above 0 and below 1"),
    "no room for validation": (["data.validation=500"], "data.validation = 500 leaves none of the 24 rows to train on; give a smaller number"),
}  # fmt: skip


@pytest.mark.parametrize(("settings", "words"), SETTINGS.values(), ids=SETTINGS.keys())
def test_settings(settings: list[str], words: str, project: Path, capsys: Capture) -> None:
    assert train_refusal(capsys, *settings).startswith(words)


@pytest.mark.parametrize("fault", ["techniques.emma.decay=0.9", "loss.name=bces", "optimizer.lr=-1"])
def test_a_technique_is_refused_before_data_and_weights_are_opened(
    fault: str, project: Path, capsys: Capture
) -> None:
    message = train_refusal(capsys, fault, "data.train=gone.csv", "backbone.path=./nowhere")
    assert "gone.csv" not in message
    assert "./nowhere" not in message


@pytest.mark.skipif(torch.cuda.is_available(), reason="fp16 is refused where there is no GPU")
def test_fp16_needs_a_gpu(project: Path, capsys: Capture) -> None:
    message = 'train.precision = "fp16" needs a GPU and there is none; use "bf16" or "fp32"'
    assert train_refusal(capsys, "train.precision=fp16") == message


@pytest.mark.parametrize("part", ["validation", "test"])
def test_a_label_that_training_never_saw(part: str, project: Path, capsys: Capture) -> None:
    Path("other.csv").write_text(HEADER + "a,order\nb,orders\n")
    message = train_refusal(capsys, f"data.{part}=other.csv")
    assert message.startswith("other.csv, row 2, column 'label' holds the label 'orders', which 1 row(s)")
    assert "did you mean 'order'?" in message


def test_rows_shared_by_training_and_test_are_counted(project: Path, capsys: Capture) -> None:
    Path("shared.csv").write_text(HEADER + "Where is my parcel a ,order\nsomething else,refund\n")
    settings = ["--set", "data.test=shared.csv", "--set", "data.validation=false"]
    assert etude("validate", "config.toml", *settings) == 0
    out, err = capsys.readouterr()
    assert err == (
        "warning: 1 of 2 test rows have the same text as a training row, so the test score is too good; "
        "remove the repeated rows\n"
    )
    assert "1 to look at" in out


def test_a_folder_that_holds_something(project: Path, capsys: Capture) -> None:
    Path("taken").write_text("mine")
    Path("full").mkdir()
    Path("full/thesis.txt").write_text("mine")
    for name in ("taken", "full"):
        message = train_refusal(capsys, f"run.dir={name}")
        assert message == f"{name} exists and is no run's folder; choose another with --set run.dir=NAME"
    message = train_refusal(capsys, "run.dir=taken/inside")
    assert message.startswith("the run's folder taken/inside cannot be made: Not a directory")
    assert Path("taken").read_text() == "mine"
    assert [file.name for file in Path("full").iterdir()] == ["thesis.txt"]


class Impatient(Reporter):
    """Presses Ctrl-C in the second epoch."""

    @contextmanager
    def bar(self, title: str, total: int | None, unit: str) -> Iterator[Bar]:
        if title.startswith("epoch 2"):
            signal.raise_signal(signal.SIGINT)
        with super().bar(title, total, unit) as bar:
            yield bar


@pytest.fixture(scope="module")
def runs(written: Path) -> dict[str, Path]:
    """A run that was stopped, and one that was finished."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(written)
        with pytest.raises(Interrupted, match="stopped after step 4; go on with: etude resume stopped"):
            api.train(
                "config.toml", overrides=["run.dir=stopped", "train.save_every=2st"], reporter=Impatient()
            )
        api.train("config.toml", overrides=["run.dir=finished", "train.save_every=2st"])
    return {name: written / name for name in ("stopped", "finished")}


@pytest.fixture
def stopped(project: Path, runs: dict[str, Path]) -> Path:
    """A copy of the stopped run, with checkpoints of the steps 2 and 4."""
    for name in ("stopped", "finished"):
        (project / name).unlink(missing_ok=True)
        shutil.copytree(runs[name], project / name)
    run = Path("stopped")
    assert [path.name for path in checkpoints(run / "checkpoints")] == ["step-00000002", "step-00000004"]
    return run


def test_a_folder_that_holds_a_run(stopped: Path, capsys: Capture) -> None:
    before = {file: file.read_bytes() for file in stopped.rglob("*") if file.is_file()}
    message = refusal(capsys, "train", "config.toml", "--set", "run.dir=stopped")
    assert message == (
        "stopped already holds a run; go on with 'etude resume stopped', or choose another folder with "
        "--set run.dir=NAME"
    )
    assert {file: file.read_bytes() for file in stopped.rglob("*") if file.is_file()} == before


def test_resume_of_no_run(project: Path, capsys: Capture) -> None:
    Path("empty").mkdir()
    assert refusal(capsys, "resume", "empty") == "empty holds no run: there is no config.toml in it"
    assert refusal(capsys, "resume", "gone") == "gone holds no run: there is no config.toml in it"


def truncate(checkpoint: Path) -> None:
    file = checkpoint / "state.safetensors"
    file.write_bytes(file.read_bytes()[:1000])


def alter_tensors(checkpoint: Path) -> None:
    file = checkpoint / "state.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def alter_numbers(checkpoint: Path) -> None:
    file = checkpoint / "state.json"
    file.write_text(file.read_text().replace('"engine/step": 4', '"engine/step": 3'))


@pytest.mark.parametrize("damage", [truncate, alter_tensors, alter_numbers])
def test_a_damaged_checkpoint(
    damage: Callable[[Path], None], stopped: Path, runs: dict[str, Path], capsys: Capture
) -> None:
    newest = checkpoints(stopped / "checkpoints")[-1]
    damage(newest)
    assert refusal(capsys, "resume", "stopped", "--quiet") == (
        "the checkpoint stopped/checkpoints/step-00000004 is truncated or was altered; remove its folder to "
        "go on"
    )
    shutil.rmtree(newest)
    assert etude("resume", "stopped", "--quiet") == 0
    check_same_weights(stopped, runs["finished"])


def check_same_weights(run: Path, other: Path) -> None:
    found, expected = (load_file(folder / "model" / "model.safetensors") for folder in (run, other))
    assert len(expected) > 20
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []


def test_data_that_changed(stopped: Path, capsys: Capture) -> None:
    changed = Path("messages.csv").read_text().replace("my parcel a", "my money a")
    Path("messages.csv").unlink()
    Path("messages.csv").write_text(changed)
    assert refusal(capsys, "resume", "stopped", "--quiet") == (
        "the data of stopped have changed since its checkpoint was written; put them back, or start a new run"
    )


def test_a_config_that_changed(stopped: Path, capsys: Capture) -> None:
    config = stopped / "config.toml"
    config.write_text(config.read_text().replace('save_every = "2st"', 'save_every = "3st"'))
    config.write_text(config.read_text().replace("epochs = 6", "epochs = 5"))
    assert refusal(capsys, "resume", "stopped", "--quiet") == (
        "stopped/config.toml has changed since the checkpoint was written; put its settings back, or start "
        "a new run"
    )
    config.write_text(config.read_text().replace("epochs = 5", "epochs = 6"))
    assert etude("resume", "stopped", "--quiet") == 0


def test_predict(stopped: Path, capsys: Capture) -> None:
    Path("a.csv").write_text("texts\nwhere is my parcel\n")
    message = refusal(capsys, "predict", "finished", "a.csv", "--output", "b.csv", "--quiet")
    assert message == "a.csv has no column 'text'; did you mean 'texts'?; its columns are texts"
    assert refusal(capsys, "predict", "stopped", "a.csv") == (
        "the run stopped has no model yet; finish it with 'etude resume stopped'"
    )
    assert refusal(capsys, "predict", "gone", "a.csv") == (
        "gone does not exist; name a run's folder or a saved model's"
    )
    message = refusal(capsys, "predict", "finished", "a.csv", "--text", "texts", "--output", "b.txt")
    assert message.startswith("b.txt ends in '.txt'")
    Path("a.csv").write_text("text\nwhere is my parcel\n \n")
    message = refusal(capsys, "predict", "finished", "a.csv", "--output", "b.csv", "--quiet")
    assert message.startswith("a.csv, row 2, column 'text' has an empty text")
    assert not [file for file in Path().iterdir() if "b." in file.name]


def test_evaluate(stopped: Path, capsys: Capture) -> None:
    Path("a.csv").write_text(HEADER + "where is my parcel,orders\n")
    message = refusal(capsys, "evaluate", "finished", "a.csv", "--quiet")
    assert message.startswith("a.csv, row 1, column 'label' holds the label 'orders'")
    model = "finished/model"
    assert refusal(capsys, "evaluate", model) == (
        f"{model} names no test part; say which data to score: etude evaluate {model} DATA"
    )


@pytest.fixture
def small_disk(project: Path) -> Iterator[Path]:
    """A disk of 2 MiB; skips where nobody may mount one."""
    disk = project / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root may mount a small disk")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path, left: int) -> None:
    """Leave so many bytes of room."""
    room = shutil.disk_usage(disk).free
    (disk / "ballast").write_bytes(bytes(room - left))


def test_a_full_disk(small_disk: Path, runs: dict[str, Path], capsys: Capture) -> None:
    config = ["train", "config.toml", "--quiet", "--set", "run.dir=disk/run", "--set", "train.save_every=2st"]
    fill(small_disk, 0)
    message = refusal(capsys, *config)
    assert message.startswith("disk/run/config.toml could not be written: the disk is full; make room, or ")
    (small_disk / "ballast").unlink()
    fill(small_disk, 500_000)
    message = refusal(capsys, *config)
    assert message == (
        "the checkpoint of step 6 could not be written to disk/run/checkpoints: the disk is full; earlier "
        "checkpoints are intact, so make room and resume"
    )
    left = sorted(path.name for path in (small_disk / "run/checkpoints").iterdir())
    assert left == ["step-00000002", "step-00000004"]
    (small_disk / "ballast").unlink()
    assert etude("resume", "disk/run", "--quiet") == 0
    check_same_weights(small_disk / "run", runs["finished"])


def test_a_full_disk_when_going_on(
    stopped: Path, small_disk: Path, runs: dict[str, Path], capsys: Capture
) -> None:
    run = small_disk / "run"
    shutil.copytree(stopped, run)
    fill(small_disk, 0)
    logged = (run / "metrics.jsonl").read_text()
    assert refusal(capsys, "resume", "disk/run", "--quiet") == (
        "disk/run/metrics.jsonl could not be written: the disk is full; make room, then go on with: etude "
        "resume disk/run"
    )
    assert (run / "metrics.jsonl").read_text() == logged
    (small_disk / "ballast").unlink()
    assert etude("resume", "disk/run", "--quiet") == 0
    check_same_weights(run, runs["finished"])

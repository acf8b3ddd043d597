"""Real processes are killed at many moments; what is resumed ends as if nothing had happened.

One run is started as a user starts it. The others are forked from a server that has imported
everything once; most of them kill themselves with SIGKILL at the k-th time that they open, make, rename
or remove a file of the run's folder: the moments at which a kill could do harm.
"""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_project import etude, write_project

from etude import api, cli
from etude.core.checkpoint import checkpoints

RUN = Path("run")
FILE_EVENTS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree"}


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose run was never stopped."""
    folder = tmp_path_factory.mktemp("reference")
    write_project(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert etude("train", "config.toml", "--quiet") == 0
    assert [record["step"] for record in history(folder / RUN) if "train" in record] == list(range(1, 19))
    return folder


@pytest.fixture
def project(reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the reference's files and no run, as the working folder."""
    for name in ("messages.csv", "held_out.csv", "config.toml", "tiny"):
        (tmp_path / name).symlink_to(reference / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def history(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def files(run: Path) -> list[str]:
    return sorted(str(file.relative_to(run)) for file in run.rglob("*"))


def check_same(run: Path, reference: Path) -> None:
    """The weights are equal bit for bit, every step was logged once and alike, and nothing is left over."""
    found, expected = (load_file(folder / "model" / "model.safetensors") for folder in (run, reference))
    assert len(expected) > 20
    assert found.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []
    assert history(run) == history(reference)
    assert files(run) == files(reference)
    summaries = [json.loads((folder / "summary.json").read_text()) for folder in (run, reference)]
    assert summaries[0]["metrics"] == summaries[1]["metrics"]


def wait_for_line(n: int, alive: Callable[[], bool]) -> None:
    """Return as soon as metrics.jsonl has n lines."""
    path = RUN / "metrics.jsonl"
    while not path.is_file() or path.read_bytes().count(b"\n") < n:
        assert alive()
        time.sleep(0.0005)


def test_ctrl_c_saves_and_says_how_to_go_on(project: Path, reference: Path) -> None:
    command = [sys.executable, "-m", "etude", "train", "config.toml", "--quiet"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, text=True, stderr=subprocess.PIPE, env=environment)
    wait_for_line(2, lambda: process.poll() is None)
    process.send_signal(signal.SIGINT)
    warning, last = process.communicate()[1].splitlines()
    assert process.returncode == 130
    assert warning == "warning: stopping after this step, with a checkpoint; once more to stop at once"
    step = int(checkpoints(RUN / "checkpoints")[-1].name.removeprefix("step-"))
    assert last == f"stopped after step {step}; go on with: etude resume run"
    assert etude("resume", "run", "--quiet") == 0
    check_same(RUN, reference / RUN)


def train_until(moment: int, kind: str | None, place: str) -> None:
    """Train in this process, which kills itself at the moment-th file event of a kind and a place."""
    torch.set_num_threads(1)
    seen = 0

    def look(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event not in FILE_EVENTS or not isinstance(arguments[0], str | os.PathLike):
            return
        where = Path(os.fspath(arguments[0])).as_posix()
        if where.split("/")[0] == "run" and place in where and kind in (None, event):
            seen += 1
            if seen == moment:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(look)
    cli.main(["train", "config.toml", "--quiet"])


@pytest.fixture(scope="module")
def begin() -> Callable[..., BaseProcess]:
    """Starts a process of its own that trains, and is killed at a moment, if one is given."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["etude.api", "tiny_project"])

    def start(moment: int, kind: str | None = None, place: str = "") -> BaseProcess:
        process = server.Process(target=train_until, args=(moment, kind, place))
        process.start()
        return process

    return start


@pytest.fixture
def killed(begin: Callable[..., BaseProcess]) -> Callable[..., None]:
    """Trains in a process of its own until it is killed at a moment."""

    def train_and_kill(moment: int, kind: str | None = None, place: str = "") -> None:
        process = begin(moment, kind, place)
        process.join()
        assert process.exitcode == -signal.SIGKILL

    return train_and_kill


@pytest.mark.parametrize("line", [1, 10])
def test_killed_from_outside(
    line: int, project: Path, reference: Path, begin: Callable[..., BaseProcess]
) -> None:
    process = begin(0)
    wait_for_line(line, process.is_alive)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    api.resume(RUN)
    check_same(RUN, reference / RUN)


@pytest.mark.parametrize("moment", [5, 20, 40, 60, 80])
def test_killed_at_a_file_event(
    moment: int, project: Path, reference: Path, killed: Callable[..., None]
) -> None:
    killed(moment)
    api.resume(RUN)
    check_same(RUN, reference / RUN)


@pytest.mark.parametrize(
    ("moment", "kind", "place", "left"),
    [
        (1, "os.rename", "checkpoints", 0),
        (3, "open", ".partial-00000010", 1),
        (3, "os.rename", "checkpoints", 2),
        (1, "os.rename", ".partial-model", 2),
    ],
    ids=["before the first checkpoint", "in a checkpoint's write", "before its name", "in the model's save"],
)
def test_killed_while_writing(
    moment: int,
    kind: str,
    place: str,
    left: int,
    project: Path,
    reference: Path,
    killed: Callable[..., None],
) -> None:
    killed(moment, kind, place)
    partial = RUN if "model" in place else RUN / "checkpoints"
    assert list(partial.glob(".partial-*"))
    assert len(checkpoints(RUN / "checkpoints")) == left
    api.resume(RUN)
    check_same(RUN, reference / RUN)


def test_killed_before_the_config_is_there(
    project: Path, reference: Path, killed: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    killed(1, "os.rename", "config.toml")
    assert etude("resume", "run") == 2
    assert "run holds no run" in capsys.readouterr().err
    assert etude("train", "config.toml", "--quiet") == 0
    check_same(RUN, reference / RUN)


def test_a_finished_run_is_finished_again(project: Path, reference: Path) -> None:
    api.train("config.toml")
    api.resume(RUN)
    check_same(RUN, reference / RUN)

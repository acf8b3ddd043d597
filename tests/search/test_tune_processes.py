"""Studies of several processes: none takes another's trial, and a kill costs the running trial at most.

PostgreSQL is a real one, from Debian's packages, that the tests start on a socket in a folder of their own.
"""

from __future__ import annotations

import collections
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import RDBStorage

from runs.tiny_project import CONFIG, write_project

PLAIN = CONFIG.replace("[techniques.hidden_mixup]\n", "").replace("[techniques.ema]\n", "")
TUNE = """
[tune]
trials = 8
seeds = 1
metric = "loss"
heartbeat = 1
"""
SERVERS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_project(tmp_path)
    (tmp_path / "plain.toml").write_text(PLAIN.replace("epochs = 6", "epochs = 2") + TUNE)
    return tmp_path


def start(project: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "etude", "tune", "plain.toml", *arguments]
    return subprocess.Popen(
        command, cwd=project, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def ended(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate(timeout=900)
    assert process.returncode == 0, said
    return said


def record_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "study.json").read_text())
    return found


def all_done_once(record: dict[str, Any], processes: Sequence[str]) -> None:
    """Every place was taken, and each trial by one process alone."""
    assert [trial["place"] for trial in record["trials"]] == list(range(8))
    assert [trial["state"] for trial in record["trials"]] == ["complete"] * 8
    settings = [json.dumps(trial["settings"], sort_keys=True) for trial in record["trials"]]
    assert len(set(settings)) == 8, "no two trials tried the same"
    told = collections.Counter(
        line.split(":")[0] for said in processes for line in said.splitlines() if line.startswith("trial ")
    )
    assert sorted(told.values()) == [1] * 8, told


def test_two_processes_share_a_study(project: Path) -> None:
    processes = [start(project), start(project)]
    said = [ended(process) for process in processes]
    record = record_of(project / "run")
    all_done_once(record, said)
    assert record["confirmation"]["seeds"] == [1]
    assert sum("with seed 1" in line for text in said for line in text.splitlines()) == 2


def test_a_kill_costs_no_more_than_the_running_trial(project: Path) -> None:
    process = start(project)
    assert process.stdout is not None
    before = []
    for line in process.stdout:
        before.append(line)
        if line.startswith("trial 3 "):
            break
    process.send_signal(signal.SIGKILL)
    process.communicate()
    said = ended(start(project))
    record = record_of(project / "run")
    assert [trial["state"] for trial in record["trials"]] == ["complete"] * 8
    again = [line for line in said.splitlines() if line.startswith("trial ")]
    # The third had told its score, and may or may not have been written down.
    assert len(again) in (5, 6)
    assert not any(line.startswith(("trial 1 ", "trial 2 ")) for line in again)
    assert [trial["tries"] for trial in record["trials"]].count(2) <= 1


class Server:
    """A PostgreSQL of its own, which listens on a socket and on no port."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder, self._programs = folder, programs
        self._user = "postgres" if os.getuid() == 0 else None
        folder.mkdir(mode=0o777)
        folder.chmod(0o777)
        self._run("initdb", "-D", f"{folder}/data", "-U", "etude", "-A", "trust", "--no-sync", "-E", "UTF8")
        options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
        self._run("pg_ctl", "-D", f"{folder}/data", "-o", options, "-l", f"{folder}/log", "-w", "start")
        self.url = f"postgresql://etude@/postgres?host={folder}"

    def stop(self) -> None:
        self._run("pg_ctl", "-D", f"{self.folder}/data", "-m", "immediate", "stop")

    def _run(self, program: str, *arguments: str) -> None:
        # A server refuses to run as root.
        command = [str(self._programs / program), *arguments]
        done = subprocess.run(
            command, user=self._user, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        assert done.returncode == 0, done.stderr


@pytest.fixture
def server() -> Iterator[Server]:
    if not SERVERS:
        pytest.skip(
            "PostgreSQL is not installed, so that a shared storage is not tried: apt-get install postgresql"
        )
    # The path of a socket has at most 107 characters, which a folder of pytest's may exceed.
    folder = Path(f"/tmp/etude-pg-{os.getpid()}-{time.monotonic_ns()}")  # noqa: S108
    running = Server(folder, SERVERS[-1])
    try:
        yield running
    finally:
        running.stop()
        shutil.rmtree(folder, ignore_errors=True)


def test_machines_share_a_study_in_postgresql(project: Path, server: Server) -> None:
    """Two folders stand for two machines: they share nothing but the database."""
    shared = ["--storage", server.url, "--set", "tune.study='together'"]
    processes = [start(project, *shared, "--set", f"run.dir='{name}'") for name in ("here", "there")]
    said = [ended(process) for process in processes]
    here, there = record_of(project / "here"), record_of(project / "there")
    all_done_once(here, said)
    assert here["trials"] == there["trials"]
    assert here["best"] == there["best"]
    assert here["confirmation"] == there["confirmation"]
    assert not (project / "here" / "study.db").exists()
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    storage = RDBStorage(server.url.replace("postgresql", "postgresql+psycopg"))
    names = [study.study_name for study in storage.get_all_studies()]
    storage.remove_session()
    storage.engine.dispose()
    assert names[0] == "together"
    assert all(name.startswith("together/confirm-") for name in names[1:])


def test_a_database_that_goes_away_is_one_sentence(project: Path, server: Server) -> None:
    process = start(project, "--storage", server.url, "--set", "tune.trials=40")
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("trial 2 "):
            break
    server._run("pg_ctl", "-D", f"{server.folder}/data", "-m", "immediate", "stop")
    said, _ = process.communicate(timeout=120)
    server._run("pg_ctl", "-D", f"{server.folder}/data", "-w", "-l", f"{server.folder}/log", "start")
    assert process.returncode == 2, said
    assert "error: the storage postgresql://etude@/postgres" in said.splitlines()[-1]

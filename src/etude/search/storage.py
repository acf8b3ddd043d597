"""Where studies live: a SQLite file in the run's folder, or a database that several machines share."""

from __future__ import annotations

import functools
import os
import socket
import sqlite3
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import RDBStorage, fail_stale_trials
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from etude.errors import EtudeError, RunError
from etude.extras import require
from etude.search.schedule import PLACE, place_of

AGAIN, WHO = "again", "process"
MOST_TRIES = 2
"""How often a trial is begun whose process dies: what kills twice is the trial's own doing."""
GRACE = 3
"""Heartbeats that may be missed before a process counts as dead."""


def open_storage(url: str | None, folder: Path, heartbeat: int) -> RDBStorage:
    """Open the database of a study.

    Args:
        url: as SQLAlchemy has it; None for ``study.db`` in the folder.
        folder: the study's.
        heartbeat: seconds between the signs of life of a process.

    Raises:
        RunError: it cannot be reached or written.
    """
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    where = url or f"sqlite:///{folder / 'study.db'}"
    shown = str(folder / "study.db") if url is None else _without_password(url)
    if where.startswith("postgresql://"):
        require("psycopg", extra="search", technique="a study in PostgreSQL")
        where = where.replace("postgresql://", "postgresql+psycopg://", 1)
    try:
        address = make_url(where)
        engine: dict[str, Any] = {"pool_pre_ping": True}
        if address.get_backend_name() == "sqlite" and address.database:
            engine = {"creator": functools.partial(_sqlite, address.database)}
        with quiet_optuna():
            storage = RDBStorage(
                where,
                engine_kwargs=engine,
                heartbeat_interval=heartbeat,
                grace_period=GRACE * heartbeat,
                heartbeat_stale_trial_callback=try_again,
            )
    except ArgumentError:
        raise RunError(
            f"the storage {shown!r} is no address of a database; write it as postgresql://USER@HOST/NAME or "
            "sqlite:///FILE"
        ) from None
    except (SQLAlchemyError, sqlite3.Error, ImportError, OSError, ValueError, RuntimeError) as error:
        raise RunError(_refused(shown, error)) from None
    return storage


def _sqlite(file: str) -> sqlite3.Connection:
    """Open a SQLite file that writes ahead: as safe against a kill, without a wait for the disk each time."""
    # A process that waits for another's write must not give up at once; heartbeats come from another thread.
    connection = sqlite3.connect(file, timeout=60, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    return connection


def _refused(shown: str, error: Exception) -> str:
    reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
    return (
        f"the storage {shown} cannot be opened: {reason}; see that it can be written and reached, or choose "
        "another with --storage or run.dir"
    )


def _without_password(url: str) -> str:
    head, at, tail = url.rpartition("@")
    scheme, _, user = head.partition("://")
    return f"{scheme}://{user.split(':')[0]}@{tail}" if at else url


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Keep to ourselves what Optuna warns of: that parts of it are experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        warnings.simplefilter("ignore", FutureWarning)
        yield


@contextmanager
def as_run_error(where: str) -> Iterator[None]:
    """Turn what a database refuses in the middle of a study into one sentence.

    Optuna may stumble over the refusal itself, with an error of Python's; what led to it counts.
    """
    try:
        yield
    except EtudeError:
        raise
    except Exception as error:
        refusal = _refusal_behind(error)
        if refusal is None:
            raise
        raise RunError(_refused(where, refusal)) from None


def _refusal_behind(error: BaseException | None) -> Exception | None:
    """The database's own error among an error and those that led to it; None where there is none."""
    refusal: Exception | None = None
    while error is not None:
        if isinstance(error, SQLAlchemyError):
            return error
        if isinstance(error, optuna.exceptions.StorageInternalError):
            refusal = refusal or error
        error = error.__cause__ or error.__context__
    return refusal


def mine() -> dict[str, Any]:
    """Which process this is, so that others on the same machine can see that it is gone."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "since": _started(os.getpid())}


def _started(pid: int) -> str:
    """When a process began, as the kernel counts it; empty where it does not say."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def is_gone(process: Mapping[str, Any]) -> bool:
    """Whether a process of this machine no longer runs; of other machines nothing is known."""
    if process.get("host") != socket.gethostname():
        return False
    try:
        os.kill(int(process["pid"]), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, ValueError):
        return False
    return bool(process.get("since")) and _started(int(process["pid"])) != process["since"]


def bury_the_dead(study: optuna.Study) -> None:
    """Fail the trials whose process is gone, each once, and let them be tried again."""
    with quiet_optuna():
        fail_stale_trials(study)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if is_gone(trial.user_attrs.get(WHO, {})):
            try:
                study.tell(trial.number, state=TrialState.FAIL)
            except ValueError:  # another process was faster
                continue
            try_again(study, trial)


def try_again(study: optuna.Study, trial: FrozenTrial, *, at_fault: bool = True) -> None:
    """Put a trial whose process died, or was stopped, in front of those that were not begun."""
    tries = int(trial.user_attrs.get(AGAIN, 1))
    if tries < MOST_TRIES or not at_fault:
        place = place_of(study.get_trials(deepcopy=False), trial.number)
        study.enqueue_trial(trial.params, user_attrs={PLACE: place, AGAIN: tries + at_fault})


def work(
    study: optuna.Study,
    objective: Callable[[optuna.Trial], float],
    n: int,
    *,
    may_begin: Callable[[], bool],
    waiting: Callable[[int], None],
) -> None:
    """Take trials of a study until all of its places are done, by this process or by others.

    Args:
        study: shared with other processes, or not.
        objective: one trial.
        n: places.
        may_begin: whether there is time for another trial.
        waiting: told once how many trials of other processes are waited for.
    """
    told = False
    while True:
        bury_the_dead(study)
        trials = study.get_trials(deepcopy=False)
        begun = sum(AGAIN not in trial.user_attrs for trial in trials)
        to_do = begun < n or any(trial.state == TrialState.WAITING for trial in trials)
        if to_do and may_begin():
            _one(study, objective)
            continue
        running = sum(trial.state == TrialState.RUNNING for trial in trials)
        if not running:
            return
        if not told:
            waiting(running)
            told = True
        time.sleep(0.5)


def _one(study: optuna.Study, objective: Callable[[optuna.Trial], float]) -> None:
    """Take one trial; one that the user stops is not lost."""
    begun: list[int] = []

    def noting(trial: optuna.Trial) -> float:
        begun.append(trial.number)
        trial.set_user_attr(WHO, mine())
        return objective(trial)

    try:
        with quiet_optuna():
            study.optimize(noting, n_trials=1, catch=(Exception,))
    except KeyboardInterrupt:
        if begun:
            try_again(study, study.trials[begun[0]], at_fault=False)
        raise

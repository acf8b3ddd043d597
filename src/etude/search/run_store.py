"""The runs of a study on disk: a record for each, written whole, and claimed by one process at a time.

A run is known by what decides its scores: its settings and its data. Whoever holds the lock of a run trains
it; a process that dies loses its lock with its life, so that nothing has to be cleaned up.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from etude.config.run import Config
from etude.errors import RunError
from etude.runs.folder import reason, whole_file

RUNS = "runs"
MOST_TRIES = 2
"""How often a run is begun whose process died each time, before it counts as failed."""

NOT_OF_A_RUN: Mapping[str, Any] = {
    "data": True,
    "run": True,
    "train": {"micro_batch_size", "save_every", "keep_checkpoints", "log_every"},
}
"""Settings that do not decide a run's scores, or whose meaning the hash of its data holds."""


def run_key(config: Config, data: str) -> str:
    """The name of a run: a hash of its settings and of its data's fingerprint."""
    # Without defaults a setting that a later version adds does not make another run of this one.
    settings = config.model_dump(mode="json", exclude=NOT_OF_A_RUN, exclude_defaults=True)
    content = json.dumps([settings, data], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:20]


class RunStore:
    """The records of a study's runs.

    Attributes:
        folder: where they are.
    """

    def __init__(self, study: Path) -> None:
        self.folder = study / RUNS
        self._way_out = f"make room, then go on by running the study again in {study}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(
                f"the study's folder {study} cannot be made: {reason(error)}; choose another with --dir"
            ) from None

    def find(self, key: str) -> dict[str, Any] | None:
        """The record of a finished or failed run; None where there is none, or no whole one."""
        try:
            content: dict[str, Any] = json.loads((self.folder / f"{key}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return content if {"status", "scores", "seconds"} <= set(content) else None

    def write(self, key: str, record: Mapping[str, Any]) -> None:
        """Write a record whole; raises :class:`RunError` where the disk refuses."""
        with whole_file(self.folder / f"{key}.json", self._way_out) as file:
            file.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")

    def model(self, key: str) -> Path:
        """Where the model of a run is kept, if it is."""
        return self.folder / key / "model"

    @contextmanager
    def claim(self, key: str) -> Iterator[int]:
        """Take a run, and give the number of tries that died before; -1 where another process has it.

        Raises:
            RunError: the study's folder cannot be written to.
        """
        path = self.folder / f"{key}.lock"
        try:
            lock = path.open("a+", encoding="utf-8")
        except OSError as error:
            raise RunError(f"{path} could not be written: {reason(error)}; {self._way_out}") from None
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield -1
                return
            lock.seek(0)
            died = len(lock.read())
            lock.write("x")
            lock.flush()
            try:
                yield died
            finally:  # a kill comes here no more, and leaves its mark
                path.unlink(missing_ok=True)

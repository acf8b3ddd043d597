"""A run's folder: what is in it, and that nothing in it is ever half written or overwritten."""

from __future__ import annotations

import errno
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from etude.config.load import dump_config, load_config
from etude.config.run import Config
from etude.errors import RunError

CONFIG, PLAN, ENVIRONMENT = "config.toml", "plan.txt", "environment.json"
METRICS, SUMMARY, MODEL = "metrics.jsonl", "summary.json", "model"
PREDICTIONS, CHECKPOINTS = "predictions", "checkpoints"
ETUDE_JSON, STAGES = "etude.json", "stages.json"


PARTIAL = ".partial"
"""The end of the names of files that are being written; what a kill leaves of them counts for nothing."""


@contextmanager
def whole_file(path: Path, way_out: str) -> Iterator[Path]:
    """Give a temporary name to write to; the file gets its own name once it is complete.

    Args:
        path: the file.
        way_out: what the user should do where the disk refuses.

    Raises:
        RunError: the disk is full or refuses; a file of that name stays as it was.
    """
    partial = path.with_name(f".{path.name}{PARTIAL}")
    try:
        yield partial
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise RunError(f"{path} could not be written: {reason(error)}; {way_out}") from None


def reason(error: OSError) -> str:
    """Why the disk refused, in words."""
    full = error.errno == errno.ENOSPC or "No space left" in str(error)
    return "the disk is full" if full else error.strerror or str(error)


class RunFolder:
    """The folder of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / CHECKPOINTS
        self.model = path / MODEL
        self.predictions = path / PREDICTIONS

    @classmethod
    def create(cls, config: Config) -> RunFolder:
        """Make the folder of a new run and keep its resolved config.

        Raises:
            RunError: the folder holds a run, or something else, or cannot be made.
        """
        path = Path(config.run.dir)
        cls.refuse_used(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(
                f"the run's folder {path} cannot be made: {reason(error)}; choose another with "
                "--set run.dir=NAME"
            ) from None
        with whole_file(path / CONFIG, "make room, or choose another folder with --set run.dir=NAME") as file:
            file.write_text(dump_config(config), encoding="utf-8")
        folder = cls(path)
        folder.write_environment(config.seed)
        return folder

    @staticmethod
    def refuse_used(path: Path) -> None:
        """Raise :class:`RunError` if the folder holds a run or anything else."""
        if (path / CONFIG).exists():
            raise RunError(
                f"{path} already holds a run; go on with 'etude resume {path}', or choose another "
                "folder with --set run.dir=NAME"
            )
        # A run that was killed before its config was complete leaves no more than a partial file.
        used = path.is_dir() and any(not file.name.endswith(PARTIAL) for file in path.iterdir())
        if used or path.is_file():
            raise RunError(f"{path} exists and is no run's folder; choose another with --set run.dir=NAME")

    @classmethod
    def open(cls, path: Path) -> tuple[RunFolder, Config]:
        """Open the folder of an earlier run with its config.

        Raises:
            RunError: the folder holds no run.
        """
        if not (path / CONFIG).is_file():
            raise RunError(f"{path} holds no run: there is no {CONFIG} in it")
        return cls(path), load_config(path / CONFIG)

    def log(self, record: Mapping[str, Any]) -> None:
        """Append one line to metrics.jsonl; raises :class:`RunError` where the disk refuses."""
        path = self.path / METRICS
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        except OSError as error:
            raise RunError(f"{path} could not be written: {reason(error)}; {self._way_out}") from None

    def history(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl; a last line that a kill cut short is left out."""
        found = []
        path = self.path / METRICS
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return found

    def forget_after(self, step: int) -> None:
        """Drop the metrics of steps that a resumed run will do again."""
        kept = [json.dumps(record) + "\n" for record in self.history() if record["step"] <= step]
        self.write(METRICS, "".join(kept))

    def write(self, name: str, content: str | Mapping[str, Any] | Sequence[Any]) -> None:
        """Write a text or a JSON file into the folder; raises :class:`RunError` where the disk refuses."""
        text = content if isinstance(content, str) else json.dumps(content, indent=2) + "\n"
        with self.whole_file(name) as file:
            file.write_text(text, encoding="utf-8")

    def write_environment(self, seed: int) -> None:
        """Write environment.json, unless it is there: a run keeps what it was started in."""
        if not (self.path / ENVIRONMENT).exists():
            self.write(ENVIRONMENT, environment(seed))

    def whole_file(self, name: str) -> AbstractContextManager[Path]:
        """Give a temporary name for a file of the folder; see :func:`whole_file`."""
        return whole_file(self.path / name, self._way_out)

    @property
    def _way_out(self) -> str:
        return f"make room, then go on with: etude resume {self.path}"


def environment(seed: int) -> dict[str, Any]:
    """Versions, hardware, git commit, command and seed: what somebody needs to repeat the run."""
    packages = ("etude", "torch", "transformers", "accelerate", "tokenizers", "numpy", "scikit-learn")
    return {
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in packages},
        "hardware": {
            "machine": platform.machine(),
            "processor": _processor(),
            "cores": os.cpu_count(),
            "system": platform.platform(),
        },
        "git": _git_commit(),
        "command": sys.argv,
        "seed": seed,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _git_commit() -> str | None:
    command = ["git", "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def folder_of_results(path: Path) -> Path:
    """Return the folder that holds a run's scores and predictions: of several stages, that of the last one.

    Raises:
        RunError: what the folder says of its stages is damaged.
    """
    file = path / STAGES
    if not file.is_file():
        return path
    try:
        return path / str(json.loads(file.read_text(encoding="utf-8"))[-1]["folder"])
    except (OSError, ValueError, TypeError, KeyError, IndexError):
        raise RunError(f"{file} is damaged; name the folder of one stage") from None


def find_model(path: Path) -> Path:
    """Return the folder of the saved model that ``path`` names: a model's or a run's folder.

    Raises:
        RunError: there is no model.
    """
    for folder in (path, path / MODEL):
        if (folder / ETUDE_JSON).is_file():
            return folder
    if not path.exists():
        raise RunError(f"{path} does not exist; name a run's folder or a saved model's")
    if (path / "config.toml").is_file():
        raise RunError(f"the run {path} has no model yet; finish it with 'etude resume {path}'")
    raise RunError(f"{path} holds neither a run nor a saved model")


def read_metadata(folder: Path) -> dict[str, Any]:
    """What ``etude.json`` says of a saved model.

    Raises:
        RunError: it is missing, damaged or incomplete.
    """
    try:
        content: dict[str, Any] = json.loads((folder / ETUDE_JSON).read_text(encoding="utf-8"))
        wanted = {"task", "labels", "input"} - set(content)
    except (OSError, ValueError, TypeError) as error:
        raise RunError(f"{folder / ETUDE_JSON} cannot be read: {error}") from None
    if wanted and "pretrained" in content:
        raise RunError(
            f"{folder} holds a backbone that knows no labels yet; train it with backbone.path = '{folder}'"
        )
    if wanted:
        raise RunError(f"{folder / ETUDE_JSON} lacks {', '.join(sorted(wanted))}; save the model again")
    return content

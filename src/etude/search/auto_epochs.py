"""How many epochs: train, look where the validation score peaks, and train again with that many.

The number of epochs is a setting like the learning rate: a schedule that ends where the score is best beats
one that was cut short there. A run whose score still rises at its end is trained again from the start, half
as long again. Each run has a folder of its own inside the search's, so that a stopped search goes on.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etude.config.load import parse_config
from etude.config.run import Config
from etude.core.observe import Reporter
from etude.diagnosis.noise import Measured
from etude.errors import ConfigError, Interrupted, RunError
from etude.runs.folder import CONFIG, SUMMARY, RunFolder, whole_file
from etude.runs.retrain import finished, paired_change, peak_of
from etude.runs.train import resume, train
from etude.search.probe import refuse_without_steps
from etude.search.same_study import told

AUTO = "auto_epochs.json"
ROUNDS, FACTOR = 3, 1.5


@dataclass(frozen=True)
class Length:
    """One run of the search.

    Attributes:
        folder: the run's.
        epochs: how many it had.
        best: the best evaluation of the main metric on the validation part.
        best_epoch: after which epoch that was.
        last: the evaluation at the end.
        score: that of the model that was kept, decided as it would be used.
        retrained: whether the number of its epochs is where a longer run was best.
    """

    folder: Path
    epochs: int
    best: float
    best_epoch: int
    last: float
    score: float
    retrained: bool = False

    @property
    def still_rising(self) -> bool:
        """Whether its last epoch is its best."""
        return self.best_epoch >= self.epochs


@dataclass(frozen=True)
class AutoEpochs:
    """A search for the number of epochs.

    Attributes:
        folder: the search's.
        metric: the task's main metric.
        runs: in the order in which they were trained.
        kept: the run whose model to use: the retrained one, unless it scores below the long one.
        change: the retrained model's score less the long one's, with its 95 % interval; None without both.
    """

    folder: Path
    metric: str
    runs: tuple[Length, ...]
    kept: Length
    change: Measured | None

    def to_json(self) -> dict[str, Any]:
        """The runs and what was kept as plain values."""
        return {
            "folder": str(self.folder),
            "metric": self.metric,
            "runs": [{**vars(run), "folder": str(run.folder)} for run in self.runs],
            "kept": str(self.kept.folder),
            "epochs": self.kept.epochs,
            "difference": None if self.change is None else self.change._asdict(),
        }

    def table(self) -> str:
        """The runs as lines of text, and what the retraining gave."""
        width = max(len(str(run.folder)) for run in self.runs)
        lines = [f"{'':{width}}  epochs  best (after)   last    {self.metric} of the model"]
        for run in self.runs:
            note = "  retrained" if run.retrained else ""
            note += "  <- kept" if run is self.kept else ""
            lines.append(
                f"{run.folder!s:{width}}  {run.epochs:6}  {run.best:.4f} ({run.best_epoch:3})  {run.last:.4f}"
                f"  {run.score:.4f}{note}"
            )
        if self.change is not None:
            low, high = self.change.low, self.change.high
            beyond = "within the noise" if low <= 0 <= high else "beyond the noise"
            lines.append(
                f"\nretrained less long {self.change.value:+.4f} ({low:+.4f} to {high:+.4f}), {beyond}"
            )
        elif self.runs[-1].still_rising:
            lines.append("\nthe score still rose at the end of the longest run; more epochs may be better")
        return "\n".join(lines)


def train_auto_epochs(
    config: Config, *, rounds: int = ROUNDS, reporter: Reporter | None = None
) -> AutoEpochs:
    """Find the number of epochs of a run.

    Args:
        config: the run; its ``train.epochs`` are the first guess, and ``run.dir`` is the search's folder.
        rounds: how often a run that still improves at its end may be extended.
        reporter: who tells of progress.

    Raises:
        ConfigError: there is no validation part to look at, or epochs do not decide the run's length.
        RunError: the folder holds something else, or a search with another config.
        Interrupted: Ctrl-C; the same call goes on.
    """
    _refuse_unsuited(config)
    reporter, folder = reporter or Reporter(), Path(config.run.dir)
    _keep_or_refuse(folder, config)
    runs, epochs = [], config.train.epochs
    for extended in range(rounds + 1):
        runs.append(_run(config, epochs, reporter))
        if not runs[-1].still_rising or extended == rounds:
            break
        epochs = math.ceil(FACTOR * epochs)
        reporter.line(f"{runs[-1].folder} was best at its end; training {epochs} epochs from the start")
    long, change = runs[-1], None
    task, _ = finished(long.folder)
    kept = long
    if not long.still_rising:
        reporter.line(f"{long.folder} was best after {long.best_epoch} of {long.epochs} epochs")
        again = _run(config, long.best_epoch, reporter, retrained=True)
        runs = [*(run for run in runs if run.epochs != again.epochs), again]
        change = paired_change(long.folder, again.folder, task)
        kept = again if again.score >= long.score else long
    found = AutoEpochs(folder, task.main_metric, tuple(runs), kept, change)
    _write(folder, {**_read(folder), "result": found.to_json()})
    return found


def resume_auto_epochs(folder: Path, *, reporter: Reporter | None = None) -> AutoEpochs:
    """Go on with a search that was stopped.

    Raises:
        RunError: the folder holds none.
    """
    return train_auto_epochs(parse_config(_read(folder)["config"]), reporter=reporter)


def _refuse_unsuited(config: Config) -> None:
    if config.data.validation is False and config.data.folds is None:
        raise ConfigError(
            "--auto-epochs looks where the validation score is best, and data.validation is false; set it to "
            "a fraction or a file"
        )
    if config.train.max_steps is not None:
        raise ConfigError(
            f"--auto-epochs chooses the run's length, and train.max_steps = {config.train.max_steps} limits "
            "it; remove one of the two"
        )
    refuse_without_steps(config, "--auto-epochs")
    if config.stages:
        raise ConfigError(
            "--auto-epochs searches the length of one run, and there are [[stages]]; remove these"
        )


def _run(config: Config, epochs: int, reporter: Reporter, *, retrained: bool = False) -> Length:
    """Train a run of so many epochs, go on with it, or find it finished."""
    search = Path(config.run.dir)
    path = search / f"epochs-{epochs}"
    settings = config.model_dump(mode="json", exclude_none=True)
    settings["train"]["epochs"], settings["run"]["dir"] = epochs, str(path)
    try:
        if not (path / CONFIG).is_file():
            train(parse_config(settings), reporter=reporter)
        elif not (path / SUMMARY).is_file():
            resume(path, reporter=reporter)
    except Interrupted as stopped:
        said = str(stopped).split("; go on with:")[0]
        raise Interrupted(f"{said} in {path}; go on with: etude resume {search}") from None
    run, resolved = RunFolder.open(path)
    task, score = finished(path)
    peak = peak_of(run, resolved, task)
    return Length(path, epochs, peak.score, peak.epochs, peak.last, score, retrained)


def _keep_or_refuse(folder: Path, config: Config) -> None:
    """Write the config into a new search's folder, or refuse to go on with that of another config."""
    if not (folder / AUTO).is_file():
        RunFolder.refuse_used(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(
                f"the folder {folder} cannot be made: {error.strerror}; choose another with --set "
                "run.dir=NAME"
            ) from None
        _write(folder, {"config": config.model_dump(mode="json", exclude_none=True)})
        return
    then, now = _settings(parse_config(_read(folder)["config"])), _settings(config)
    changed = [key for key in sorted({*then, *now}) if then.get(key) != now.get(key)]
    if changed:
        raise RunError(
            f"{folder} holds a search of epochs with other settings of {', '.join(changed)}; put them back, "
            "or choose another folder with --set run.dir=NAME"
        )


def _settings(config: Config) -> dict[str, Any]:
    """What decides the runs of a search: the settings, the seed and the files."""
    return {
        **told(config),
        "seed": config.seed,
        "data.train": config.data.train,
        "data.test": config.data.test,
    }


def _read(folder: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads((folder / AUTO).read_text(encoding="utf-8"))
        dict(content["config"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{folder / AUTO} cannot be read: {error}; choose another folder") from None
    return content


def _write(folder: Path, content: dict[str, Any]) -> None:
    with whole_file(folder / AUTO, f"make room, then go on with: etude resume {folder}") as file:
        file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

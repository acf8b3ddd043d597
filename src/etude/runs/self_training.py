"""Self-training: whole trainings in a row, each on the labels that the last model gave.

For every kind of data and for trees: a round is a normal run in a folder ``round-N`` with a file of
pseudo-labels as its training part, weights restarted. Rounds are compared on the validation part; the test
part stays locked until the last round is known.
"""

from __future__ import annotations

import json
import shutil
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etude.config.load import dump_config, merge, parse_config
from etude.config.run import Config
from etude.config.self_training import SelfTrainingConfig
from etude.core.observe import Reporter
from etude.core.task import Task
from etude.data.pseudo_labels import PseudoLabels, read_pseudo_labels
from etude.data.read import Parts, read_parts
from etude.data.table import Table
from etude.diagnosis.noise import Measured, difference
from etude.errors import ConfigError, RunError
from etude.evaluation.scored import Scored
from etude.kinds import kind_of
from etude.runs.folder import CONFIG, MODEL, PREDICTIONS, SUMMARY, RunFolder
from etude.runs.judge import Judgement, score_part
from etude.runs.model import Classifier
from etude.runs.predictions import read_predictions, write_predictions
from etude.runs.pseudo_labels import Labelled, confidences, next_labels, write_pseudo_labels
from etude.runs.train import resume, train

ROUNDS, SETTINGS = "rounds.json", "self_training.json"


@dataclass(frozen=True)
class Round:
    """One training.

    Attributes:
        number: 1 for the one on the labelled rows alone.
        added: rows without labels that it learns and the one before did not.
        used: rows without labels that it learns.
        least_confidence: of the teacher, in any of them; None in round 1.
        score: the main metric on the validation part, or None without one.
    """

    number: int
    added: int
    used: int
    least_confidence: float | None
    score: float | None


@dataclass(frozen=True)
class SelfTrained:
    """What self-training gives.

    Attributes:
        folder: of the rounds; its ``model`` is the last one's.
        metric: the task's main metric.
        rounds: what each added and scored.
        gain: the last round's score minus the first's, with its 95 % interval, on validation and, where
            there is one, on the test part.
        test: the first and the last round's score on the test part.
        stopped: why there was no further round.
    """

    folder: Path
    metric: str
    rounds: list[Round]
    stopped: str
    gain: dict[str, Measured] = field(default_factory=dict)
    test: tuple[float, float] | None = None

    @property
    def model(self) -> Classifier:
        """The last round's model."""
        return Classifier(self.folder / MODEL)

    def to_json(self) -> dict[str, Any]:
        """The table and the gains as plain values."""
        return {
            "folder": str(self.folder),
            "metric": self.metric,
            "rounds": [vars(one) for one in self.rounds],
            "stopped": self.stopped,
            "gain": {part: found._asdict() for part, found in self.gain.items()},
            "test": None if self.test is None else list(self.test),
        }


@dataclass(frozen=True)
class _Pool:
    """What all rounds share: the labelled rows, and the rows without labels as a model reads them."""

    task: Task
    labelled: Labelled
    own: Table
    others: Table | None

    def __len__(self) -> int:
        return len(self.labelled) + (0 if self.others is None else self.others.rows)


def self_train(
    config: Config, settings: SelfTrainingConfig, *, reporter: Reporter | None = None
) -> SelfTrained:
    """Train round after round, until no row is added or the rounds are used up.

    In a folder that holds rounds of the same config, those that are finished are not trained again, and one
    that was stopped goes on from its checkpoint.

    Raises:
        ConfigError: there are no rows without labels, or the method does not fit the backbone.
        RunError: the folder holds something else.
        EtudeError: a round cannot be trained.
        Interrupted: Ctrl-C; the same call goes on.
    """
    reporter = reporter or Reporter()
    _refuse_unsuited(config, settings)
    pool = _read_pool(config)
    folder = Path(config.run.dir)
    _open_folder(folder, config, settings)
    rounds: list[Round] = []
    before: PseudoLabels | None = None
    used = np.zeros(0, np.int64)
    told: list[NDArray[np.float32]] = []
    stopped = f"all {settings.rounds} rounds after the first are done"
    for number in range(1, settings.rounds + 2):
        _train_round(config, settings, folder, number, reporter)
        last, used = used, _without_labels(before, len(pool.labelled))
        least = float(confidences(pool.task, told[-1])[used].min()) if len(used) else None
        score = _score_of(folder / f"round-{number}", pool.task)
        rounds.append(Round(number, len(np.setdiff1d(used, last)), len(used), least, score))
        _say(reporter, rounds[-1], pool.task)
        RunFolder(folder).write(ROUNDS, [vars(one) for one in rounds])
        if number > settings.rounds:
            break
        told.append(_predict(folder, number, pool.others, pool.task, reporter))
        asked = np.mean(told, axis=0) if settings.average_rounds else told[-1]
        found = _next(settings, pool, asked, before, folder, number, reporter)
        if found is None:
            stopped = "no row is added, and none changes its label"
            break
        before = found
    return _finish(config, folder, pool, rounds, stopped, reporter)


def resume_self_training(folder: Path, *, reporter: Reporter | None = None) -> SelfTrained:
    """Go on with self-training that was stopped, from what its folder holds.

    Raises:
        RunError: the folder holds none, or its settings are damaged.
        EtudeError: as :func:`self_train`.
    """
    try:
        kept = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        config = parse_config(tomllib.loads(kept["config"]))
        settings = SelfTrainingConfig.model_validate(kept["self_training"])
    except FileNotFoundError:
        raise RunError(f"{folder} holds no self-training: there is no {SETTINGS} in it") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{folder / SETTINGS} cannot be read: {error}; start again elsewhere") from None
    return self_train(config, settings, reporter=reporter)


def _refuse_unsuited(config: Config, settings: SelfTrainingConfig) -> None:
    if config.data.unlabelled is None and settings.method != "self_distillation":
        raise ConfigError(
            f"self_training.method = {settings.method!r} labels rows without labels and there are none; set "
            "data.unlabelled to a file, or to 'rest' beside data.limit"
        )
    if config.data.pseudo_labels is not None:
        raise ConfigError("data.pseudo_labels is what self-training writes for its rounds; remove it")
    if settings.method == "pretrain_then_finetune" and config.backbone.kind in ("trees", "linear"):
        raise ConfigError(
            f"pretrain_then_finetune goes on from the weights of a network and backbone.kind is "
            f"{config.backbone.kind!r}; use method = 'confident_share'"
        )


def _read_pool(config: Config) -> _Pool:
    loader = kind_of(config).loader()
    found: Parts = read_parts(config, loader)
    part = found.rows["train"]
    others = None
    if found.unlabelled is not None:
        others = found.unlabelled.table.take(found.unlabelled.ids.tolist())
    labelled = Labelled(part.targets(found.task), part.weights)
    return _Pool(found.task, labelled, part.table.take(part.ids.tolist()), others)


def _open_folder(folder: Path, config: Config, settings: SelfTrainingConfig) -> None:
    """Make the folder, or see that it holds rounds of this very config."""
    wanted = {"config": dump_config(config), "self_training": settings.model_dump(mode="json")}
    kept = folder / SETTINGS
    if kept.is_file():
        if json.loads(kept.read_text(encoding="utf-8")) != json.loads(json.dumps(wanted)):
            raise RunError(
                f"{folder} holds self-training with other settings, kept in {kept.name}; put them back, or "
                "choose another folder with --set run.dir=NAME"
            )
        return
    RunFolder.refuse_used(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"the folder {folder} cannot be made: {error}; choose another with --set run.dir=NAME"
        ) from None
    RunFolder(folder).write(SETTINGS, wanted)


def _train_round(
    config: Config, settings: SelfTrainingConfig, folder: Path, number: int, reporter: Reporter
) -> None:
    """Train a round to its end, from wherever it stands."""
    name = f"round-{number}"
    labels = {"pseudo_labels": str(_labels_path(folder, number))}
    if number == 1:
        _run(config, folder / name, {"data": {"unlabelled": None}}, reporter)
    elif settings.method == "pretrain_then_finetune":
        first = folder / f"{name}-pretrain"
        _run(config, first, merge(settings.student, {"data": labels}), reporter)
        changes = merge(settings.finetune, {"data": {"unlabelled": None}})
        _run(config, folder / name, merge(changes, {"backbone": {"path": str(first / MODEL)}}), reporter)
    else:
        _run(config, folder / name, merge(settings.student, {"data": labels}), reporter)


def _run(config: Config, folder: Path, changes: Mapping[str, Any], reporter: Reporter) -> None:
    """Train a run with some settings changed in a folder, go on with it, or leave it where it is finished."""
    if (folder / SUMMARY).is_file() and (folder / MODEL).is_dir():
        return
    reporter.line(f"\n{folder}")
    if (folder / CONFIG).is_file():
        resume(folder, reporter=reporter)
        return
    fixed = {"run": {"dir": str(folder), "score_test": False, "baselines": False}}
    tables = merge(merge(config.model_dump(mode="json", exclude_none=True), changes), fixed)
    tables["data"] = {key: value for key, value in tables["data"].items() if value is not None}
    train(parse_config(tables), reporter=reporter)


def _labels_path(folder: Path, number: int) -> Path:
    return folder / f"labels-{number}.parquet"


def _next(
    settings: SelfTrainingConfig,
    pool: _Pool,
    probabilities: NDArray[np.float32],
    before: PseudoLabels | None,
    folder: Path,
    number: int,
    reporter: Reporter,
) -> PseudoLabels | None:
    """What the next round learns: written by an earlier call, or labelled now and written."""
    path = _labels_path(folder, number + 1)
    if path.is_file():
        return read_pseudo_labels(path, pool.task, len(pool))
    own = None
    if settings.method == "self_distillation":
        own = _predict(folder, number, pool.own, pool.task, reporter)
    found = next_labels(settings, pool.task, pool.labelled, probabilities, before, own)
    if found is not None:
        write_pseudo_labels(path, pool.task, found)
    return found


def _predict(
    folder: Path, number: int, table: Table | None, task: Task, reporter: Reporter
) -> NDArray[np.float32]:
    """A round's calibrated probabilities of a table's rows."""
    if table is None:
        return np.zeros((0, task.n_classes), np.float32)
    model = Classifier(folder / f"round-{number}" / MODEL)
    return model.decision.apply(model.logits_of_table(table, reporter=reporter))[0]


def _without_labels(learned: PseudoLabels | None, n_labelled: int) -> NDArray[np.int64]:
    """Which rows without labels a round learned, counted from 0."""
    if learned is None:
        return np.zeros(0, np.int64)
    return learned.rows[learned.rows >= n_labelled] - n_labelled


def _score_of(folder: Path, task: Task) -> float | None:
    """A finished run's main metric on the validation part, which there may not be."""
    summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    score = summary["metrics"].get("validation", {}).get(task.main_metric)
    return None if score is None else float(score)


def _say(reporter: Reporter, one: Round, task: Task) -> None:
    score = "no validation part" if one.score is None else f"{task.main_metric} {one.score:.4f}"
    reporter.line(f"round {one.number}: {one.used:,} rows without labels, {one.added:,} of them new; {score}")


def _finish(
    config: Config, folder: Path, pool: _Pool, rounds: list[Round], stopped: str, reporter: Reporter
) -> SelfTrained:
    """Score the test part with the first and the last round, and put the last one's model forward."""
    last = folder / f"round-{rounds[-1].number}"
    ends = (folder / "round-1", last)
    if config.data.test is not None:
        for one in dict.fromkeys(ends):
            _score_test(one, config, reporter)
    gain = {}
    for part in ("validation", "test"):
        first, second = (read_predictions(one, part, pool.task) for one in ends)
        if first is not None and second is not None:
            gain[part] = difference(second, first)
    scores = [json.loads((one / SUMMARY).read_text("utf-8"))["metrics"].get("test") for one in ends]
    metric = pool.task.main_metric
    test = None if None in scores else (scores[0][metric], scores[1][metric])
    _put_forward(last, folder)
    found = SelfTrained(folder, metric, rounds, stopped, gain, test)
    RunFolder(folder).write(ROUNDS, found.to_json())
    return found


def _score_test(folder: Path, config: Config, reporter: Reporter) -> None:
    """Score a finished round on the test part, as a run that is on its own would have."""
    run, summary = RunFolder(folder), json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    if "test" in summary["metrics"]:
        return
    part = read_parts(config, kind_of(config).loader()).rows["test"]
    model = Classifier(folder / MODEL)
    logits = model.logits_of_table(part.table.take(part.ids.tolist()), reporter=reporter)
    applied = model.decision.apply(logits)
    scored = Scored(model.task, logits, *applied, part.targets(model.task), part.content.shown(), part.ids)
    judged = Judgement(model.decision)
    score_part(judged, "test", scored, config, reporter)
    write_predictions(run, "test", scored)
    told = judged.to_json()
    for key in ("metrics", "intervals", "per_class", "plain", "gain", "calibration"):
        summary[key] = {**summary.get(key, {}), **told[key]}
    run.write(SUMMARY, summary)


def _put_forward(last: Path, folder: Path) -> None:
    """Copy the last round's model, predictions, config and summary to where those of a run lie."""
    for name in (MODEL, PREDICTIONS):
        partial = folder / f".{name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(last / name, partial)
        shutil.rmtree(folder / name, ignore_errors=True)
        partial.rename(folder / name)
    for name in (CONFIG, SUMMARY):
        RunFolder(folder).write(name, (last / name).read_text(encoding="utf-8"))

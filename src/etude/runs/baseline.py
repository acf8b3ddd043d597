"""The baselines of a run: fitted on its training rows, decided as the run decides, scored alike."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etude.config.run import Config
from etude.core.examples import Examples
from etude.core.observe import Reporter
from etude.core.predict import Subset, predict
from etude.core.task import Task
from etude.data.load import Data, Prepared, load_data
from etude.data.read import Part
from etude.decision.postprocessor import Decision, cross_fit
from etude.errors import EtudeError
from etude.evaluation.baselines import ZERO_RULE, Baseline, BaselinePart, fit_baselines
from etude.evaluation.bootstrap import bootstrap
from etude.evaluation.metrics import Metrics, Scores
from etude.kinds import Kind, kind_of
from etude.runs.build import Run, choose_precision, make_accelerator

WITH_INTERVAL = ("accuracy", "f1_macro", "f1_micro", "in_scope_accuracy", "oos_recall")
"""Metrics whose intervals are worth their time for a baseline, beside the task's main metric."""


MOST_TOKENS = 1_000_000
"""Tokens of the training rows whose features are computed; a thousand rows at least."""


@dataclass(frozen=True)
class BaselineScores:
    """What a baseline is worth.

    Attributes:
        metrics: by part; of the validation part each row is decided by what other rows chose.
        intervals: by part and metric, the 2.5th and 97.5th percentile of the bootstrap.
        plain: by part, with plain decisions (the likeliest label, or 0.5).
        seconds: for fitting and predicting.
        rows: training rows that it was fitted on.
        note: what was left out or chosen.
    """

    metrics: dict[str, Scores] = field(default_factory=dict)
    intervals: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    plain: dict[str, Scores] = field(default_factory=dict)
    seconds: float = 0.0
    rows: int = 0
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Everything as plain JSON."""
        return asdict(self)


def baseline(
    config: Config, *, only: Collection[str] | None = None, reporter: Reporter | None = None
) -> dict[str, BaselineScores]:
    """Fit the baselines that a config's data allow, and score them on its validation and test parts.

    Args:
        config: the run's config; nothing is trained, and no folder is made.
        only: names of baselines; all if absent.
        reporter: who tells of progress.

    Raises:
        EtudeError: the data or the backbone cannot be used, or a name is unknown.
    """
    reporter = reporter or Reporter()
    kind = kind_of(config)
    data = load_data(config, kind.loader(), reporter)
    for warning in data.warnings:
        reporter.warn(warning)
    accelerator = make_accelerator(choose_precision(config.train.precision))
    if data.test is not None:
        # Baselines are fitted to training rows and decided on validation rows; these are only scored.
        data.test.unlock()
    return _baselines(config, data, kind, accelerator, only, reporter)


def run_baselines(
    run: Run, *, only: Collection[str] | None = None, reporter: Reporter | None = None
) -> dict[str, dict[str, Any]]:
    """Fit and score the baselines of a run that was trained, on what it has in memory; plain JSON by name.

    Its backbone has changed in training, so that the checkpoint is opened once more. The test part must have
    been unlocked. With several processes all take part, because they share the forward passes.
    """
    found = _baselines(run.config, run.data, run.kind, run.accelerator, only, reporter or Reporter())
    return {name: scores.to_json() for name, scores in found.items()}


def _baselines(
    config: Config,
    data: Data,
    kind: Kind,
    accelerator: Any,
    only: Collection[str] | None,
    reporter: Reporter,
) -> dict[str, BaselineScores]:
    parts = _parts(data)
    inputs = {name: _inputs(part, shown=kind.shows_inputs) for name, part in parts.items()}
    train = inputs.pop("train")
    untouched: list[Any] = []

    def features(part: str, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        if not untouched:
            backbone = kind.backbone(data.task, data)
            untouched.append(accelerator.prepare_model(backbone, evaluation_mode=True))
        found: NDArray[np.float32] = predict(
            untouched[0],
            Subset(parts[part].examples, rows),
            accelerator,
            reporter=reporter,
            title=f"untouched features of {part}",
            features=True,
        ).numpy()
        return found

    with reporter.bar("baselines", None, "fitted") as bar:
        fitted = fit_baselines(
            data.task,
            train,
            inputs,
            features=features if kind.trained_by_steps else None,
            feature_rows=max(int(MOST_TOKENS / max(data.train.lengths.mean(), 1.0)), 1_000),
            only=only,
            seed=config.seed,
            tick=lambda name: bar.advance(1, name),
        )
        targets = {name: part.targets for name, part in inputs.items()}
        return {name: score_baseline(found, targets, config) for name, found in fitted.items()}


def _parts(data: Data) -> dict[str, Prepared]:
    """The parts that there are, by name; the test part must have been unlocked."""
    examples: dict[Part, Examples | None] = {"train": data.train, "validation": data.validation}
    found: dict[str, Prepared] = {
        name: Prepared(part, data.texts[name], data.pairs.get(name, []), data.rows[name])
        for name, part in examples.items()
        if part is not None
    }
    if data.test is not None:
        found["test"] = data.test.open()
    return found


def _inputs(part: Prepared, *, shown: bool) -> BaselinePart:
    numbers = getattr(part.examples, "numbers", None)
    return BaselinePart(
        texts=part.texts if shown else [],
        targets=part.examples.targets.numpy(),
        weights=part.examples.weights.numpy(),
        pairs=part.pairs or None,
        numbers=None if numbers is None else numbers.numpy(),
    )


def score_baseline(
    found: Baseline, targets: Mapping[str, NDArray[np.float32]], config: Config
) -> BaselineScores:
    """Decide as the run does, so that the comparison is fair, and score every part."""
    task = found.task
    decided, note = _decide(found, targets, config)
    scores = BaselineScores(seconds=found.seconds, rows=found.n_fit_rows, note=note)
    names = [*WITH_INTERVAL, task.main_metric]
    for part, (probabilities, decisions) in decided.items():
        scores.metrics[part] = _metrics(task, probabilities, decisions, targets[part])
        plain = Decision.plain(task).apply(found.logits[part])
        scores.plain[part] = _metrics(task, *plain, targets[part])
        if config.run.resamples and len(decisions) > 1:
            intervals = bootstrap(
                task,
                probabilities,
                targets[part],
                decisions,
                names=[name for name in dict.fromkeys(names) if name in scores.metrics[part]],
                resamples=config.run.resamples,
                seed=config.seed,
            )
            scores.intervals[part] = {name: [i.low, i.high] for name, i in intervals.items()}
    return scores


_Decided = dict[str, tuple[NDArray[np.float32], NDArray[np.bool_]]]


def _decide(
    found: Baseline, targets: Mapping[str, NDArray[np.float32]], config: Config
) -> tuple[_Decided, str]:
    """Probabilities and decisions of every part, and the note.

    The zero rule of a single-label task is always the majority class of the training rows.
    """
    task, wanted, seed = found.task, config.decision, config.seed
    plain = Decision.plain(task)
    constant = found.name == ZERO_RULE
    if "validation" not in found.logits or (constant and task.kind != "multilabel"):
        return {part: plain.apply(logits) for part, logits in found.logits.items()}, found.note
    if constant:  # thresholds find the best constant answer; there is nothing to calibrate
        wanted = wanted.model_copy(update={"calibration": "none"})
    held_out = found.logits["validation"], targets["validation"]
    try:
        decision = Decision.fit(task, wanted, *held_out, seed=seed)
        honest = cross_fit(task, wanted, *held_out, seed=seed)
    except EtudeError as error:  # a finished training must not be lost for a baseline that cannot be decided
        notes = [found.note, f"decided plainly, since: {error}"]
        decided = {part: plain.apply(logits) for part, logits in found.logits.items()}
        return decided, "; ".join(note for note in notes if note)
    decided = {part: decision.apply(logits) for part, logits in found.logits.items()}
    return decided | {"validation": honest}, found.note


def _metrics(
    task: Task,
    probabilities: NDArray[np.float32],
    decisions: NDArray[np.bool_],
    targets: NDArray[np.float32],
) -> Scores:
    metrics = Metrics(task)
    metrics.update(probabilities, targets, decisions)
    return metrics.compute()

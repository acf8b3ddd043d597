"""One training of a study: built afresh, trained, scored on the validation part, and thrown away.

Every trial starts from the pretrained weights and from the config's seed, so that trials differ by their
settings alone. It writes no folder and never opens the test part.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etude.config.run import Config
from etude.core.engine import Engine
from etude.core.phases import AVERAGE, OBSERVE
from etude.core.plan import Plan
from etude.errors import DataError, RunError
from etude.evaluation.names import check_metric
from etude.runs.build import build
from etude.runs.final import final_weights, kept_weights
from etude.runs.resolve import FRESH, RECOMMENDED
from etude.runs.shared import Shared
from etude.search.kept import keep_run, score_validation
from etude.search.space import with_params

Progress = Callable[[float, int], None]
"""Told the metric after each evaluation, with the number of evaluations so far; may raise to stop."""
Keep = Callable[[float], Path | None]
"""Asked, with the trial's score, where its model is to be kept; None for nowhere."""


class TrialFailed(Exception):
    """A trial came to nothing; the study goes on."""


@dataclass(frozen=True)
class Outcome:
    """What a trial gave.

    Attributes:
        value: the metric on the validation part.
        scores: all that were computed there.
        seconds: the trial in all.
        trained: of these, the ones spent in training and in scoring while it trained.
    """

    value: float
    scores: Mapping[str, float]
    seconds: float
    trained: float


def quiet(config: Config, plan: Plan) -> Config:
    """Return the config without the recommended techniques that only look on: nobody reads what they log."""
    idle = [
        name
        for name, technique in plan.techniques.items()
        if technique.facts.phase is OBSERVE
        and name in {*RECOMMENDED, *FRESH}
        and name not in config.techniques
    ]
    return with_params(config, {f"techniques.{name}.enabled": False for name in idle})


def run_trial(
    config: Config,
    *,
    metric: str,
    shared: Shared,
    progress: Progress | None = None,
    keep: Keep | None = None,
) -> Outcome:
    """Train a config and return its score.

    Args:
        config: with the trial's settings.
        metric: what is compared, on the validation part.
        shared: the data of the trials before it.
        progress: told of each evaluation.
        keep: asked where the model is to be kept.

    Raises:
        TrialFailed: training left the finite numbers, or memory did not suffice.
        EtudeError: the settings cannot be used.
    """
    start = time.perf_counter()
    try:
        return _run(config, metric, shared, progress, keep, start)
    except MemoryError:
        raise TrialFailed("out of memory") from None
    finally:
        # Models and their optimizers hold on to each other; without this, several would be in memory at once.
        gc.collect()


def _run(
    config: Config, metric: str, shared: Shared, progress: Progress | None, keep: Keep | None, start: float
) -> Outcome:
    run = build(config, shared=shared, metrics=[metric])
    check_metric(metric, run.data.task.kind)
    if run.data.validation is None:
        raise RunError(
            "tune compares trials on the validation part, and data.validation is false; set data.validation"
        )
    by_steps = run.kind.trained_by_steps
    if by_steps:
        shared.lend_features(run.engine, config)
    engine, evaluations = run.engine, 0
    latest: Mapping[str, float] = {}

    def log(record: Mapping[str, Any]) -> None:
        nonlocal evaluations, latest
        if metric not in record.get("validation", {}):  # an estimator logs the losses of its rounds alone
            return
        evaluations, latest = evaluations + 1, record["validation"]
        value = _finite(latest, metric, engine if by_steps else None)
        if progress is not None:
            progress(value, evaluations)

    engine.attach_folder(log=log, checkpoints=None)
    began = time.perf_counter()
    try:
        engine.fit()
    except DataError as error:  # probabilities that are no numbers cannot be scored
        raise TrialFailed(f"diverged: {error}") from None
    if by_steps and kept_weights(config, engine) == "last" and engine.plan.one(AVERAGE) is not None:
        latest = engine.scores()
    trained = time.perf_counter() - began
    value = _finite(latest, metric, engine if by_steps else None)
    if keep is not None and (folder := keep(value)) is not None:
        with final_weights(config, engine):
            keep_run(run, score_validation(run), folder)
    return Outcome(value, dict(latest), time.perf_counter() - start, trained)


def _finite(scores: Mapping[str, float], metric: str, engine: Engine | None) -> float:
    """The metric, if training has not left the finite numbers; an estimator has no engine to look at."""
    if metric not in scores and (engine is None or engine.step):
        raise TrialFailed(f"{metric} has no value on the validation part")
    value = scores.get(metric, math.nan)
    if engine is not None and engine.step == 0 and engine.skipped:
        raise TrialFailed("diverged: no step had a finite loss and gradient")
    loss = 0.0 if engine is None else float(engine.loss)
    if not math.isfinite(value) or not math.isfinite(loss):
        raise TrialFailed(f"diverged: {metric} {value}, loss {loss}")
    return value

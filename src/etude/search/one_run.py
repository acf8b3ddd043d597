"""One run of a study: trained, scored on the validation part, and forgotten but for its record."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from etude.config.run import Config
from etude.core.observe import Reporter
from etude.errors import EtudeError, Interrupted, RunError
from etude.evaluation.metrics import score
from etude.runs.build import Run, build
from etude.runs.final import final_weights
from etude.runs.shared import Shared
from etude.search.kept import keep_run, score_validation
from etude.search.usage import begin_peak, peak

FAULTS = (EtudeError, MemoryError, RuntimeError, ArithmeticError, ValueError)
"""What may go wrong in one run without ending the study."""


def recorded_run(
    config: Config, shared: Shared, *, metric: str | None = None, folder: Path | None = None
) -> dict[str, Any]:
    """Train and score a run, and return its record, also where it fails.

    Args:
        config: the run's.
        shared: what earlier runs have read and computed.
        metric: to be computed beside the usual ones.
        folder: where the run is to be kept with its model, if anywhere.

    Raises:
        Interrupted: somebody asked for a stop.
    """
    begin_peak()
    start = time.perf_counter()
    try:
        record = _trained(config, shared, metric, folder)
    except Interrupted:
        raise
    except FAULTS as error:
        record = {"status": "failed", "why": _in_words(error), "scores": {}, "seconds": {}}
    gc.collect()  # a run's objects refer to each other, and its weights would stay until some later time
    record["seconds"]["all"] = time.perf_counter() - start
    record["memory"] = peak()
    return record


def _in_words(error: BaseException) -> str:
    """Why a run failed, on one line."""
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return "memory did not suffice"
    text = " ".join(str(error).split()) or type(error).__name__
    return text if isinstance(error, EtudeError) else f"{type(error).__name__}: {text}"


def _trained(config: Config, shared: Shared, metric: str | None, folder: Path | None) -> dict[str, Any]:
    run = build(config, reporter=Reporter(), shared=shared)
    if run.engine.validation is None:
        raise RunError("there is no validation part to score on; set data.validation")
    features = shared.lend_features(run.engine, config)
    start = time.perf_counter()
    run.engine.fit()
    trained = time.perf_counter() - start
    _refuse_diverged(run)
    start = time.perf_counter()
    with final_weights(config, run.engine):
        scores = _scores(run, metric, folder)
    return {
        "status": "done",
        "scores": scores,
        # What the features cost counts for each run that uses them, as each would pay for them alone.
        "seconds": {"train": trained + features, "score": time.perf_counter() - start},
        "steps": run.engine.step,
        "rows": run.n_rows(),
        "plan": run.plan.describe(),
    }


def _refuse_diverged(run: Run) -> None:
    engine = run.engine
    if not run.kind.trained_by_steps:
        return
    if engine.step == 0 or not math.isfinite(float(engine.loss)):
        raise RunError("it diverged: its loss is not finite; lower optimizer.lr")
    if engine.skipped >= max(run.plan.context.steps_per_epoch, 1):
        raise RunError("it diverged: its last epoch had no finite step; lower optimizer.lr")


def _scores(run: Run, metric: str | None, folder: Path | None) -> dict[str, float]:
    """Score the validation part, each row decided by what was fitted on others, and keep the model."""
    scored = score_validation(run)
    judged = scored.task, scored.probabilities, scored.targets, scored.decisions
    found = dict(score(*judged))
    if metric is not None:
        found |= score(*judged, [metric])
    if not np.isfinite(list(found.values())).all():
        bad = next(name for name, value in found.items() if not math.isfinite(value))
        raise RunError(f"it diverged: {bad} is not finite; lower optimizer.lr")
    if folder is not None:
        keep_run(run, scored, folder)
    return found


def scores_of(record: Mapping[str, Any], metric: str, part: str = "scores") -> float | None:
    """A record's score on the validation part, or on the one that is named; None where it has none."""
    value = record.get(part, {}).get(metric)
    return None if record["status"] != "done" or value is None else float(value)

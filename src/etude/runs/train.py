"""Train a run to its end, and resume one that was stopped: by Ctrl-C, by a kill, by a full disk."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etude.config.run import Config
from etude.core.observe import Reporter
from etude.diagnosis import Evidence, diagnose
from etude.errors import Interrupted
from etude.runs.artefact import model_metadata, save_model
from etude.runs.baseline import run_baselines
from etude.runs.build import Run, build
from etude.runs.estimator import EstimatorEngine
from etude.runs.final import final_scores, final_weights
from etude.runs.fit import fit, go_back_to_checkpoint
from etude.runs.folder import SUMMARY, RunFolder
from etude.runs.judge import Judgement, judge
from etude.runs.losses import losses_of, write_losses
from etude.runs.model import Classifier
from etude.runs.predictions import write_predictions
from etude.runs.report import DIAGNOSIS, write_report


@dataclass(frozen=True)
class Result:
    """What a finished run gives.

    Attributes:
        folder: the run's.
        scores: of the validation and the test part, by metric.
        intervals: of the same.
        seconds: how long it trained.
        plan: what acted, in its order.
        stages: one line for each stage, where it had several.
    """

    folder: Path
    scores: dict[str, dict[str, float]]
    intervals: dict[str, dict[str, list[float]]]
    seconds: float
    plan: str
    stages: tuple[dict[str, Any], ...] = ()

    @property
    def model(self) -> Classifier:
        """The trained model, opened from the run's folder."""
        return Classifier(self.folder / "model")


def train(config: Config, *, reporter: Reporter | None = None) -> Result:
    """Train a new run in the folder ``config.run.dir``.

    Raises:
        EtudeError: the config, the data or the folder cannot be used.
        Interrupted: Ctrl-C; a checkpoint was written and ``resume`` goes on.
    """
    reporter = reporter or Reporter()
    RunFolder.refuse_used(Path(config.run.dir))
    # Everything that can be refused is refused before the folder exists.
    run = build(config, reporter=reporter)
    for line in (run.introduction(), *run.data.notes, *run.plan.notes):
        reporter.line(line)
    folder = RunFolder.create(config) if run.accelerator.is_main_process else RunFolder(Path(config.run.dir))
    run.accelerator.wait_for_everyone()
    return _finish(run, folder, reporter)


def resume(path: Path, *, reporter: Reporter | None = None) -> Result:
    """Go on with a run from its last checkpoint; a run that was never stopped ends with the same weights.

    Raises:
        RunError: the folder holds no run, or its last checkpoint or its data are not as they were.
    """
    reporter = reporter or Reporter()
    folder, config = RunFolder.open(path)
    run = go_back_to_checkpoint(folder, lambda: build(config, reporter=reporter), reporter)
    return _finish(run, folder, reporter)


def _finish(run: Run, folder: RunFolder, reporter: Reporter) -> Result:
    """Train from wherever the engine stands, then score and save what came out."""
    seconds = fit(run, folder, reporter, headline)
    try:
        judgement = _judge(run, folder, reporter, seconds)
    except KeyboardInterrupt:
        raise Interrupted(f"trained, but not judged yet; do that with: etude resume {folder.path}") from None
    run.accelerator.wait_for_everyone()
    scores = {part: found for part, found in judgement.metrics.items() if part != "train"}
    return Result(folder.path, scores, judgement.intervals, seconds, run.plan.describe())


def _judge(run: Run, folder: RunFolder, reporter: Reporter, trained_in: float) -> Judgement:
    """Save the model with its decision, then everything that explains what it is worth."""
    config, main = run.config, run.accelerator.is_main_process
    start = time.perf_counter()
    with final_weights(config, run.engine):
        judgement = judge(run, reporter)
        if main:
            save_model(run.backbone, folder.model, model_metadata(run), judgement.decision)
    for note in judgement.notes:
        reporter.line(note)
    history = folder.history() if main else ()
    summary = {
        "task": run.data.task.kind,
        "labels": list(run.data.task.labels),
        "rows": run.n_rows(),
        "steps": run.engine.step,
        **judgement.to_json(),
        "final": final_scores(config, run.engine, history),
        "seconds": {"train": trained_in, "judge": time.perf_counter() - start},
        "plan": run.plan.describe(),
    }
    if isinstance(run.engine, EstimatorEngine):
        summary |= run.engine.told()
    losses = losses_of(run)
    if main:
        for part, scored in judgement.parts.items():
            write_predictions(folder, part, scored)
        write_losses(folder, losses)
        folder.write(SUMMARY, summary)
    if config.run.baselines:
        summary["baselines"] = run_baselines(run, reporter=reporter)
    if main:
        folder.write(SUMMARY, summary)
        evidence = Evidence(run.data.task, history, judgement.parts, summary, losses, config)
        folder.write(DIAGNOSIS, [verdict.to_json() for verdict in diagnose(evidence)])
        if config.run.report:
            write_report(folder.path)
    return judgement


def headline(scores: Mapping[str, float]) -> str:
    """The scores that people look at first, in one line.

    >>> headline({"accuracy": 0.75, "f1_macro": 0.5, "mcc": 0.4, "loss": 0.61})
    'accuracy 0.7500, f1_macro 0.5000, loss 0.6100'
    """
    first = [name for name in ("accuracy", "f1_macro", "loss") if name in scores]
    return ", ".join(f"{name} {scores[name]:.4f}" for name in first)

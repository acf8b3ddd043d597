"""Models that a study keeps: each a run's folder, that any job can be done with."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from etude.core.observe import Reporter
from etude.core.predict import predict
from etude.decision.postprocessor import Decision, cross_fit
from etude.errors import RunError
from etude.evaluation.scored import Scored
from etude.runs.artefact import model_metadata, save_model
from etude.runs.build import Run
from etude.runs.derived import config_for, write_results
from etude.runs.folder import RunFolder

TRIALS = "trials"


def score_validation(run: Run) -> Scored:
    """Return the validation part as the model sees it, each row decided by what was fitted on others.

    Raises:
        RunError: there is no validation part.
    """
    task, validation = run.data.task, run.engine.validation
    if validation is None:
        raise RunError("there is no validation part to score on; set data.validation")
    logits = predict(run.engine.model, validation, run.accelerator).numpy()
    targets = validation.targets.numpy()
    probabilities, decisions = cross_fit(task, run.config.decision, logits, targets, seed=run.config.seed)
    texts, rows = run.data.texts["validation"], run.data.rows["validation"]
    return Scored(task, logits, probabilities, decisions, targets, texts, rows)


def keep_run(run: Run, scored: Scored, folder: Path) -> None:
    """Write the folder of a run with its model; what a kill has left of it is replaced.

    Args:
        run: trained, with the weights to keep in its backbone.
        scored: its validation part.
        folder: the run's own.
    """
    config = run.config
    decision = Decision.fit(scored.task, config.decision, scored.logits, scored.targets, seed=config.seed)
    shutil.rmtree(folder, ignore_errors=True)
    config = config_for(config, folder, report=False, resamples=0)
    made = RunFolder.create(config)
    save_model(run.backbone, made.model, model_metadata(run), decision)
    write_results(made, config, decision, {"validation": scored}, {}, run.plan.describe(), Reporter())


class BestTrials:
    """The folders of the best trials of one study, named by the trials' numbers.

    Attributes:
        folder: where they are.
        n: how many are kept.
    """

    def __init__(self, study: Path, n: int, *, greater_is_better: bool) -> None:
        self.folder, self.n = study / TRIALS, n
        self._sign = -1.0 if greater_is_better else 1.0

    def place(self, number: int, value: float, others: Mapping[int, float]) -> Path | None:
        """Where the model of a trial is to be kept; None where others are better.

        Args:
            number: the trial's.
            value: its score.
            others: those of the finished trials, by number.
        """
        ranked = self._ranked({**others, number: value})
        return self.folder / f"{number:04d}" if number in ranked[: self.n] else None

    def forget(self, values: Mapping[int, float]) -> None:
        """Remove the folders of trials that are among the best no more."""
        for number in self._ranked(values)[self.n :]:
            shutil.rmtree(self.folder / f"{number:04d}", ignore_errors=True)

    def _ranked(self, values: Mapping[int, float]) -> list[int]:
        return sorted(values, key=lambda number: (self._sign * values[number], number))

"""After training: from logits to decisions, and what they are worth on rows that did not choose them.

The decision (calibration, thresholds, abstention) is fitted on the validation part. Its own scores there
are cross-fitted: each row is decided by a decision fitted on other rows. The test part is opened once,
after everything is fixed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etude.config.run import Config
from etude.core.observe import Reporter
from etude.core.predict import Subset, predict
from etude.core.rng import numpy_generator
from etude.data.load import Part, Prepared
from etude.data.splits import Rows
from etude.decision.postprocessor import Decision, cross_fit
from etude.evaluation.bootstrap import bootstrap
from etude.evaluation.metrics import Metrics, Scores
from etude.evaluation.paired import paired_bootstrap
from etude.evaluation.reliability import calibration_scores
from etude.evaluation.scored import Scored
from etude.runs.build import Run

TRAINING_SAMPLE = 10_000
"""Training rows that are scored after training, for the comparison with rows the model has not seen."""


@dataclass
class Judgement:
    """What a trained model is worth.

    Attributes:
        decision: fitted on the validation part, or the plain one where there is none.
        parts: every part with its probabilities and decisions; validation is cross-fitted.
        metrics, intervals, per_class: by part.
        plain: the metrics of uncalibrated probabilities and plain decisions (the likeliest, or 0.5).
        gain: by part and metric, what the fitted decision changed, with its interval.
        calibration: by part, the errors of the probabilities before and after.
        notes: sentences that the user should read.
    """

    decision: Decision
    parts: dict[str, Scored] = field(default_factory=dict)
    metrics: dict[str, Scores] = field(default_factory=dict)
    intervals: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    per_class: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    plain: dict[str, Scores] = field(default_factory=dict)
    gain: dict[str, dict[str, Any]] = field(default_factory=dict)
    calibration: dict[str, dict[str, Scores]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The judgement's share of ``summary.json``."""
        return {
            "metrics": {part: scores for part, scores in self.metrics.items() if part != "train"},
            "training_sample": self.metrics.get("train", {}),
            "intervals": self.intervals,
            "per_class": self.per_class,
            "plain": self.plain,
            "gain": self.gain,
            "calibration": self.calibration,
            "decision": self.decision.to_json(),
            "decision_in_words": self.decision.describe(),
        }


def judge(run: Run, reporter: Reporter) -> Judgement:
    """Score every part with the weights to keep, which the model must have by now.

    All processes take part in the forward passes; each of them returns the same judgement.
    """
    config, data = run.config, run.data
    logits: dict[str, NDArray[np.float32]] = {}
    parts: dict[str, tuple[Prepared, Rows]] = {}

    def show(name: Part, part: Prepared) -> None:
        rows = _rows_to_score(name, len(part), config.seed)
        examples = part.examples if len(rows) == len(part) else Subset(part.examples, rows)
        found = predict(
            run.engine.model, examples, run.accelerator, reporter=reporter, title=f"scoring {name}"
        )
        logits[name], parts[name] = found.numpy(), (part, rows)

    for name, examples in run.parts().items():
        show(name, Prepared(examples, data.texts[name], data.pairs.get(name, []), data.rows[name]))
    if data.validation is None:
        decision = Decision.plain(data.task)
    else:
        targets = data.validation.targets.numpy()
        decision = Decision.fit(data.task, config.decision, logits["validation"], targets, seed=config.seed)
    # Weights, calibration and thresholds are final from here on: now the test part may be looked at.
    if data.test is not None and config.run.score_test:
        data.test.unlock()
        show("test", data.test.open())
    found = Judgement(decision, notes=list(decision.notes))
    for shown, (part, rows) in parts.items():
        targets = part.examples.targets.numpy()[rows]
        if shown == "validation":
            applied = cross_fit(data.task, config.decision, logits[shown], targets, seed=config.seed)
        else:
            applied = decision.apply(logits[shown])
        texts = [part.texts[row] for row in rows.tolist()]
        found.parts[shown] = Scored(data.task, logits[shown], *applied, targets, texts, part.rows[rows])
        score_part(found, shown, found.parts[shown], config, reporter)
    return found


def _rows_to_score(part: Part, n_rows: int, seed: int) -> Rows:
    """All rows of a part, of a large training part a sample."""
    if part != "train" or n_rows <= TRAINING_SAMPLE:
        return np.arange(n_rows)
    chosen = numpy_generator(seed, "training sample").choice(n_rows, TRAINING_SAMPLE, replace=False)
    return np.sort(chosen)


def score_part(found: Judgement, part: str, scored: Scored, config: Config, reporter: Reporter) -> None:
    """Score one part into the judgement: metrics with intervals, and what the fitted decision changed."""
    task = scored.task
    found.metrics[part], found.per_class[part] = metrics_of(scored)
    if found.decision.thresholds is not None:
        for row, threshold in zip(found.per_class[part], found.decision.thresholds, strict=True):
            row["threshold"] = threshold
    if part == "train":
        return
    plain_decision = Decision.plain(task)
    plain = plain_decision.apply(scored.logits)
    metrics = Metrics(task)
    metrics.update(plain[0], scored.targets, plain[1])
    found.plain[part] = metrics.compute()
    found.calibration[part] = {
        "before": calibration_scores(task, plain[0], scored.targets),
        "after": calibration_scores(task, scored.probabilities, scored.targets),
    }
    resamples = config.run.resamples
    if resamples == 0 or len(scored) < 2:
        return
    with reporter.bar(f"intervals of {part}", None, "resamples"):
        intervals = bootstrap(
            task,
            scored.probabilities,
            scored.targets,
            scored.decisions,
            resamples=resamples,
            seed=config.seed,
        )
        found.intervals[part] = {name: [i.low, i.high] for name, i in intervals.items()}
        if _differs(scored, plain):
            gain = paired_bootstrap(
                task,
                scored.targets,
                plain,
                (scored.probabilities, scored.decisions),
                resamples=resamples,
                seed=config.seed,
            )
            found.gain[part] = {name: asdict(difference) for name, difference in gain.items()}


def metrics_of(scored: Scored) -> tuple[Scores, list[dict[str, Any]]]:
    """The metrics of one part, and its table by label."""
    metrics = Metrics(scored.task)
    metrics.update(scored.probabilities, scored.targets, scored.decisions)
    return metrics.compute(), metrics.per_class()


def _differs(scored: Scored, plain: tuple[NDArray[np.float32], NDArray[np.bool_]]) -> bool:
    """Whether the fitted decision did anything to this part."""
    return not (np.array_equal(plain[0], scored.probabilities) and np.array_equal(plain[1], scored.decisions))

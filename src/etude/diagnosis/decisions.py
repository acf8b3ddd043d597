"""Can its probabilities be believed, did fitted thresholds help, and is any label never given?"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from etude.diagnosis.evidence import Evidence, at
from etude.diagnosis.verdict import Question, Verdict
from etude.evaluation.reliability import calibration_scores

CALIBRATION = Question("calibration", "Can its probabilities be believed?")
THRESHOLDS = Question("thresholds", "Did the fitted decisions help?")
LABELS = Question("labels", "Is every label predicted?")

SMALL_ERROR, LARGE_ERROR = 0.05, 0.10
FEWEST_ROWS = 50
"""Of fewer rows a calibration error is mostly chance."""
FEWEST_POSITIVES = 5
NAMED = 5
"""Labels that a sentence names."""


def calibration(evidence: Evidence) -> Verdict:
    """Judge the expected calibration error on the test part, or else on the validation part."""
    for part in ("test", "validation"):
        after, before = _errors(evidence, part)
        if after is None:
            continue
        n_rows = len(evidence.parts[part]) if part in evidence.parts else at(evidence.summary, "rows", part)
        facts = {"part": part, "ece": after, "ece_before": before, "rows": n_rows}
        was = "" if before is None else f" (before calibration {before:.3f})"
        words = f"probabilities are {after:.3f} off on average{was} on the {part} part"
        if isinstance(n_rows, int) and n_rows < FEWEST_ROWS:
            return CALIBRATION.answer("unknown", f"Of {n_rows} rows one cannot tell: {words}.", facts)
        if after <= SMALL_ERROR:
            return CALIBRATION.answer("good", f"Yes: {words}.", facts)
        if after <= LARGE_ERROR:
            return CALIBRATION.answer("look", f"Roughly: {words}.", facts, "Try another calibration.")
        return CALIBRATION.answer(
            "bad",
            f"No: {words}.",
            facts,
            "Calibrate on more validation rows, or with another method; do not use them as probabilities.",
        )
    return CALIBRATION.answer("unknown", "There is no scored test or validation part.")


def _errors(evidence: Evidence, part: str) -> tuple[float | None, float | None]:
    """The calibration error after and before calibration, as far as they are known."""
    after, before = (
        _finite(at(evidence.summary, "calibration", part, when, "ece")) for when in ("after", "before")
    )
    scored = evidence.parts.get(part)
    if after is None and scored is not None and len(scored) > 0:
        p = np.nan_to_num(np.clip(scored.probabilities, 0, 1), nan=0.0)
        after = _finite(calibration_scores(evidence.task, p, scored.targets).get("ece"))
    return after, before


def thresholds(evidence: Evidence) -> Verdict:
    """Compare the fitted decisions with the plain ones, the likeliest label or a threshold of 0.5."""
    for part in ("test", "validation"):
        gains = at(evidence.summary, "gain", part)
        if not gains:
            continue
        metric = evidence.metric if evidence.metric in gains else next(iter(gains))
        gain = gains[metric]
        value, low, high = (_finite(at(gain, key)) for key in ("difference", "low", "high"))
        if value is None or low is None or high is None:
            continue
        facts = {"part": part, "metric": metric, "difference": value, "low": low, "high": high}
        words = f"{metric} changed by {value:+.4f} ({low:+.4f} to {high:+.4f}) on the {part} part"
        if low > 0:
            return THRESHOLDS.answer("good", f"Yes: {words}.", facts)
        if high < 0:
            return THRESHOLDS.answer(
                "bad", f"No: {words}.", facts, "Fit them on more rows, or keep the plain decisions."
            )
        if value == 0:
            return THRESHOLDS.answer("good", f"They changed nothing: {words}.", facts)
        several = evidence.task.kind == "multilabel"
        way = "A stronger shrinkage may help." if several else "The likeliest label may serve as well."
        return THRESHOLDS.answer("look", f"Not beyond chance: {words}.", facts, way)
    return THRESHOLDS.answer("unknown", "No decisions were fitted, or no rows are there to compare them on.")


def labels(evidence: Evidence) -> Verdict:
    """Find labels that are never predicted, and those that a part does not hold."""
    found = evidence.part("validation", "test")
    if found is None:
        return LABELS.answer("unknown", "There are no predictions of a validation or test part.")
    part, scored = found
    true, said = scored.truth.sum(axis=0), scored.decisions.sum(axis=0)
    names = evidence.task.labels
    never = [names[c] for c in np.flatnonzero((said == 0) & (true >= FEWEST_POSITIVES))]
    rare = [names[c] for c in np.flatnonzero((said == 0) & (true > 0) & (true < FEWEST_POSITIVES))]
    absent = [names[c] for c in np.flatnonzero(true == 0)]
    facts: dict[str, Any] = {"part": part, "never": never, "never_rare": rare, "absent": absent}
    if never:
        return LABELS.answer(
            "bad",
            f"{len(never)} of {len(names)} labels are never predicted on the {part} part: {_some(never)}.",
            facts,
            "Weigh rare labels more, or lower their thresholds.",
        )
    if rare or absent:
        words = []
        if rare:
            words.append(f"with fewer than {FEWEST_POSITIVES} rows there, never predicted: {_some(rare)}")
        if absent:
            words.append(f"without any row there, so that nothing is known of them: {_some(absent)}")
        return LABELS.answer(
            "look",
            f"Labels of the {part} part {'; '.join(words)}.",
            facts,
            "Give the part more rows of them.",
        )
    return LABELS.answer("good", f"Each of the {len(names)} labels is predicted on the {part} part.", facts)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED])}{more}"


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float | np.number) and math.isfinite(value) else None

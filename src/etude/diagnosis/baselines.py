"""Is the model better than the zero rule, and than the simple baselines?"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from etude.diagnosis.evidence import Evidence, at
from etude.diagnosis.noise import Measured, main_score
from etude.diagnosis.verdict import Question, Verdict
from etude.evaluation.scored import Scored

QUESTION = Question("baselines", "Is it better than simple baselines?")


def baselines(evidence: Evidence) -> Verdict:
    """Compare the main metric with that of every baseline, on the test part or else the validation part."""
    for part in ("test", "validation"):
        score = evidence.score(part)
        if score is not None:
            return _compared(evidence, part, score)
    return QUESTION.answer("unknown", "There is no scored test or validation part.", {})


def _compared(evidence: Evidence, part: str, score: Measured) -> Verdict:
    known = baseline_scores(evidence, part)
    facts = {"part": part, "metric": evidence.metric, "score": list(score), "baselines": known}
    mine = f"{evidence.metric} on the {part} part is {score}"
    if not known:
        return QUESTION.answer("unknown", f"No baseline was scored; {mine}.", facts)
    name = max(known, key=lambda baseline: known[baseline])
    best = known[name]
    theirs = f"the best baseline, {name.replace('_', ' ')}, has {best:.4f}"
    if score.low > best:
        alone = set(known) == {"zero_rule"}
        more = "; no other baseline was trained" if alone else ""
        advice = ["Train the simple baselines as well: etude baseline."] if alone else []
        return QUESTION.answer("good", f"Yes: {mine}, and {theirs}{more}.", facts, *advice)
    blind = max((value for name, value in known.items() if "zero" in name), default=-math.inf)
    if score.high >= best and score.value > blind:
        return QUESTION.answer(
            "look",
            f"Not surely: {mine}, and {theirs}, inside that interval.",
            facts,
            "Score more rows, or improve the model before preferring it to a simpler one.",
        )
    return QUESTION.answer(
        "bad",
        f"No: {mine}, and {theirs}.",
        facts,
        "Check the data, the learning rate and the number of epochs.",
    )


def baseline_scores(evidence: Evidence, part: str) -> dict[str, float]:
    """The main metric of each baseline on a part; the zero rule's own where the run has none."""
    told = at(evidence.summary, "baselines")
    names = list(told) if hasattr(told, "keys") else []
    values = {name: at(told, name, "metrics", part, evidence.metric) for name in names}
    found = {
        name: float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and math.isfinite(value)
    }
    if not any("zero" in name for name in found):
        zero = zero_rule(evidence, part)
        found |= {} if zero is None else {"zero_rule": zero}
    return found


def zero_rule(evidence: Evidence, part: str) -> float | None:
    """The main metric of giving every row the most frequent labels of the training rows."""
    scored = evidence.part(part)
    seen = evidence.part("train", part)
    if scored is None or seen is None:
        return None
    said = _most_frequent(seen[1])
    decisions = np.broadcast_to(said, scored[1].decisions.shape)
    return main_score(_decided(scored[1], decisions))


def _most_frequent(scored: Scored) -> Any:
    """(C,) the labels to give without looking: the commonest one, or every label of half of the rows."""
    counts = scored.truth.sum(axis=0)
    if scored.task.kind == "multilabel" and (counts * 2 >= len(scored)).any():
        return counts * 2 >= len(scored)
    said = np.zeros(len(counts), dtype=np.bool_)
    said[int(counts.argmax())] = True
    return said


def _decided(scored: Scored, decisions: Any) -> Scored:
    return Scored(
        scored.task,
        scored.logits,
        scored.probabilities,
        decisions,
        scored.targets,
        scored.texts,
        scored.rows,
    )

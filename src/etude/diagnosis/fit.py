"""Does the model over- or underfit?"""

from __future__ import annotations

from typing import Any

from etude.diagnosis.convergence import peak
from etude.diagnosis.evidence import Evidence
from etude.diagnosis.noise import Measured, apart
from etude.diagnosis.verdict import Question, Verdict

QUESTION = Question("fit", "Does it over- or underfit?")
LARGE_GAP = 0.05
"""Training score minus validation score, surely more than this, is worth a look."""
RISEN = 0.10
"""So much of a rise of the validation loss after its minimum, as a share of it, is worth a look."""
MANY_MISTAKES = 0.10
"""A model that is wrong more often than this on the rows it was shown may be too weak, or too short."""


def fit(evidence: Evidence) -> Verdict:
    """Compare scores on rows that were shown with scores on rows that were not."""
    train, validation = evidence.score("train"), evidence.score("validation")
    facts: dict[str, Any] = {"metric": evidence.metric} | _course(evidence)
    if train is None or validation is None:
        return _from_history(evidence, facts)
    gap = apart(train, validation)
    facts |= {"train": list(train), "validation": list(validation), "gap": list(gap)}
    scores = f"{evidence.metric} is {train} on training rows and {validation} on the validation part"
    fallen, risen = facts.get("fallen", 0.0), facts.get("loss_risen", 0.0)
    if gap.low > 0 and fallen > validation.half_width:
        return QUESTION.answer(
            "bad",
            f"It overfits: {scores}, and the validation score fell by {fallen:.4f} from its peak.",
            facts,
            "Train for fewer epochs, or regularise.",
        )
    if gap.low > LARGE_GAP or (gap.low > 0 and risen > RISEN):
        loss = f"; the validation loss rose by {risen:.0%} after its minimum" if risen > RISEN else ""
        return QUESTION.answer(
            "look",
            f"It fits its training rows better than new ones: {scores}{loss}.",
            facts,
            "More rows or regularisation may close the gap.",
        )
    if train.high < 1 - MANY_MISTAKES and gap.low <= 0:
        return QUESTION.answer(
            "look",
            f"It may underfit: {scores}, so that even rows it was shown are often wrong.",
            facts,
            "Train longer, with a higher learning rate or a larger backbone; or the labels are noisy.",
        )
    return QUESTION.answer("good", f"No: {scores}, {_apart_in_words(gap)}.", facts)


def _course(evidence: Evidence) -> dict[str, Any]:
    """How far the validation score fell from its peak, and its loss rose from its minimum."""
    facts: dict[str, Any] = {}
    found, losses = peak(evidence), evidence.validation("loss")
    if found is not None:
        facts["fallen"] = max(found.score - found.last, 0.0)
    if len(losses) >= 2:
        least = int(losses.values.argmin())
        lowest, last = float(losses.values[least]), float(losses.values[-1])
        facts |= {"loss_minimum": lowest, "loss_minimum_step": int(losses.steps[least]), "loss_last": last}
        facts["loss_risen"] = last / lowest - 1 if lowest > 0 else 0.0
    return facts


def _from_history(evidence: Evidence, facts: dict[str, Any]) -> Verdict:
    """What the course of the validation loss says alone."""
    if "loss_risen" not in facts:
        lacking = "validation" if evidence.score("validation") is None else "training"
        return QUESTION.answer("unknown", f"There are no scores of {lacking} rows to compare.", facts)
    risen, at = facts["loss_risen"], facts["loss_minimum_step"]
    if risen > RISEN:
        return QUESTION.answer(
            "look",
            f"The validation loss rose by {risen:.0%} after its minimum at step {at}, as it does when a "
            "model overfits; scores of training rows are not there to tell.",
            facts,
            "Train for fewer epochs, or regularise.",
        )
    return QUESTION.answer(
        "good",
        f"The validation loss ended {'at' if risen == 0 else f'{risen:.0%} above'} its minimum "
        f"({facts['loss_minimum']:.4f}); scores of training rows are not there to tell more.",
        facts,
    )


def _apart_in_words(gap: Measured) -> str:
    if gap.low <= 0 <= gap.high:
        return "which differ by no more than chance"
    return f"a difference of {gap.value:.4f}"

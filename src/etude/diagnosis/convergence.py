"""Has the training loss converged, and is the last epoch the best one?"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from etude.core.task import Task
from etude.diagnosis import rounds
from etude.diagnosis.evidence import Evidence, Series
from etude.diagnosis.noise import Z
from etude.diagnosis.verdict import Question, Verdict

FEWEST = 5
"""Records of the training loss below which a slope says nothing."""
STILL = 0.05
"""A change in the last fifth smaller than this share of the whole fall counts as none."""
TINY, NEAR_CHANCE = 0.02, 0.9
"""So does one below this share of the loss of guessing; above the second share nothing was learned."""
UNCLEAR = 0.2
"""A change that is known no better than to this share of both tells nothing."""

CONVERGENCE = Question("convergence", "Has the training loss converged?")
BEST_EPOCH = Question("best_epoch", "Is the last epoch the best one?")


class Slope(NamedTuple):
    """A straight line through some points, with the 95 % interval of its slope."""

    value: float
    low: float
    high: float


class Peak(NamedTuple):
    """The best evaluation of a run beside its last one."""

    epochs: int
    step: int
    score: float
    last: float
    last_step: int


def slope(x: NDArray[np.float64], y: NDArray[np.float64]) -> Slope:
    """Return the slope of the least-squares line, with Student's 95 % interval.

    Raises:
        ValueError: there are fewer than three points.

    >>> found = slope(np.arange(5.0), np.array([1.0, 2.1, 2.9, 4.0, 5.0]))
    >>> round(found.value, 2), found.low < 0.99 < found.high
    (0.99, True)
    """
    if len(x) < 3:
        raise ValueError(f"{len(x)} points have no slope with an interval; three are the fewest")
    centred = x - x.mean()
    spread = float(centred @ centred)
    value = float(centred @ y) / spread
    residuals = y - y.mean() - value * centred
    error = math.sqrt(float(residuals @ residuals) / (len(x) - 2) / spread)
    width = _student(len(x) - 2) * error
    return Slope(value, value - width, value + width)


def _student(freedom: int) -> float:
    """The 97.5 % quantile of Student's t; by its expansion, which from three degrees on is close."""
    if freedom <= 2:
        return {1: 12.706, 2: 4.303}[freedom]
    first = (Z**3 + Z) / (4 * freedom)
    second = (5 * Z**5 + 16 * Z**3 + 3 * Z) / (96 * freedom**2)
    third = (3 * Z**7 + 19 * Z**5 + 17 * Z**3 - 15 * Z) / (384 * freedom**3)
    return Z + first + second + third


def convergence(evidence: Evidence) -> Verdict:
    """Judge the slope of the training loss over the last fifth of the run."""
    fitted = rounds.converged(CONVERGENCE, evidence)
    if fitted is not None:
        return fitted
    losses = evidence.training_losses()
    if losses.n_broken:
        return CONVERGENCE.answer(
            "bad",
            f"The training loss was not finite in {losses.n_broken} of its {losses.n_broken + len(losses)} "
            "records.",
            {"broken": losses.n_broken},
            "Lower the learning rate, or lengthen the warm-up.",
        )
    if len(losses) < FEWEST or losses.steps[-FEWEST] == losses.steps[-1]:
        return CONVERGENCE.answer(
            "unknown",
            f"There are {len(losses)} records of the training loss and a slope needs {FEWEST}; log it more "
            "often with train.log_every.",
        )
    return _judged_by_slope(losses, _loss_of_guessing(evidence.task))


def _loss_of_guessing(task: Task) -> float:
    """The usual loss of a model that knows nothing, which says what size of a change matters."""
    return math.log(2 if task.kind == "multilabel" else max(task.n_classes, 2))


def _judged_by_slope(losses: Series, chance: float) -> Verdict:
    """Judge a change by its interval, and by what it is of the whole fall and of the loss of guessing."""
    tail = _last_fifth(losses)
    found = slope(losses.steps[tail].astype(np.float64), losses.values[tail])
    span = float(losses.steps[tail][-1] - losses.steps[tail][0])
    first, last = _ends(losses.values, int(tail.sum()))
    fall, tiny = first - last, TINY * chance
    change, low, high = (float(end * span) for end in found)
    evidence = {
        "slope": found.value, "low": found.low, "high": found.high, "change": change, "first": first,
        "last": last, "fall": fall, "points": int(tail.sum()), "from_step": int(losses.steps[tail][0]),
    }  # fmt: skip
    words = f"over the last fifth of the run it changed by {change:+.4f} ({low:+.4f} to {high:+.4f})"
    if fall < -tiny or (fall < tiny and last > NEAR_CHANCE * chance):
        return CONVERGENCE.answer(
            "bad",
            f"The training loss did not fall: it began at {first:.4f} and ended at {last:.4f}.",
            evidence,
            "Try another learning rate: lower if the loss jumps, higher if it stands still.",
        )
    matters = abs(change) > max(STILL * fall, tiny)
    if found.low > 0 and matters:
        return CONVERGENCE.answer(
            "bad",
            f"The training loss rises at the end: {words}.",
            evidence,
            "Lower the learning rate, or let the schedule fall to zero.",
        )
    if found.high < 0 and matters:
        return CONVERGENCE.answer(
            "look",
            f"The training loss still falls, from {first:.4f} in the beginning to {last:.4f}: {words}.",
            evidence,
            "Train for more epochs, if the validation score still rises as well.",
        )
    if (high - low) / 2 > max(UNCLEAR * fall, UNCLEAR * chance):
        return CONVERGENCE.answer(
            "unknown",
            f"The training loss is too noisy to tell: {words}, of a whole fall of {fall:.4f}.",
            evidence,
        )
    return CONVERGENCE.answer("good", f"The training loss has levelled off at {last:.4f}: {words}.", evidence)


def _last_fifth(losses: Series) -> NDArray[np.bool_]:
    """Which records are in the last fifth of the steps, and at least the last five."""
    tail = losses.steps > 0.8 * losses.steps[-1]
    tail[-FEWEST:] = True
    return tail


def _ends(values: NDArray[np.float64], n: int) -> tuple[float, float]:
    """The loss at the beginning (the mean of a few records) and at the end (of the last fifth)."""
    few = max(min(n, len(values) // 5), 1)
    return float(values[:few].mean()), float(values[-few:].mean())


def peak(evidence: Evidence) -> Peak | None:
    """Return the best evaluation of the main metric, of equals the earliest, or None where there is none."""
    scores = evidence.validation(evidence.metric)
    if len(scores) == 0:
        return None
    best = int(scores.values.argmax())
    epochs = int(scores.epochs[best]) + 1
    # An evaluation after the last epoch was logged when that epoch had been counted already.
    known = [limit for limit in (evidence.epochs, _epochs_seen(evidence)) if limit is not None]
    if scores.steps[best] == scores.steps[-1] and known:
        epochs = min(epochs, known[0])
    return Peak(
        epochs,
        int(scores.steps[best]),
        float(scores.values[best]),
        float(scores.values[-1]),
        int(scores.steps[-1]),
    )


def _epochs_seen(evidence: Evidence) -> int | None:
    """The epochs in which the training loss was logged."""
    losses = evidence.training_losses()
    return int(losses.epochs.max()) + 1 if len(losses) else None


def best_epoch(evidence: Evidence) -> Verdict:
    """Compare the last evaluation with the best one, with the noise of the metric taken into account."""
    fitted = rounds.best_kept(BEST_EPOCH, evidence)
    if fitted is not None:
        return fitted
    found = peak(evidence)
    evaluations = evidence.validation(evidence.metric)
    if found is None or len(evaluations) < 2:
        n = len(evaluations)
        return BEST_EPOCH.answer(
            "unknown",
            f"There {'is one evaluation' if n == 1 else 'are no evaluations'} of {evidence.metric} on a "
            "validation part, and two are needed to compare.",
        )
    measured = evidence.score("validation")
    noise = measured.half_width if measured is not None else math.nan
    lost = found.score - found.last
    evidence_of = {**found._asdict(), "lost": lost, "noise": noise, "metric": evidence.metric,
                   "steps": evaluations.steps, "scores": evaluations.values}  # fmt: skip
    best = f"{evidence.metric} {found.score:.4f} after step {found.step} (epoch {found.epochs})"
    if lost <= 0:
        equals = "is the best" if found.step == found.last_step else "is as good as the first of the best"
        return BEST_EPOCH.answer("good", f"The last evaluation {equals}: {best}.", evidence_of)
    behind = f"the last one, {found.last:.4f}, is {lost:.4f} below the best, {best}"
    if lost <= noise:
        return BEST_EPOCH.answer(
            "good",
            f"As far as one can tell, yes: {behind}, within the noise of {noise:.4f}.",
            evidence_of,
        )
    known = "" if math.isnan(noise) else f", more than the noise of {noise:.4f}"
    return BEST_EPOCH.answer(
        "look" if math.isnan(noise) else "bad",
        f"No: {behind}{known}.",
        evidence_of,
        f"Train again for {found.epochs} epoch{'s' if found.epochs > 1 else ''}, so that the schedule ends "
        "where the score is best.",
    )

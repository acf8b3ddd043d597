"""Saying nothing: of rows that the model is unsure of, or that belong to none of its classes.

Each row has a certainty, and is answered where that is at least a threshold found on held-out rows. With
probabilities p and logits z of one row:

* *probability*: max_c p_c (Hendrycks & Gimpel 2017, 1610.02136);
* *margin*: the highest p less the second highest; of a multilabel task min_c |2 p_c - 1|;
* *entropy*: Σ_c p_c log p_c, which is the entropy's negative; of a multilabel task the mean over its labels;
* *energy*: log Σ_c exp z_c (Liu et al. 2020, 2010.03759); of a multilabel task Σ_c log(1 + exp z_c) (Wang et
  al. 2021, 2111.12797).

A row is *answered* where it has at least one label. So a multilabel row is unanswered too where no label
reaches its threshold, which says the same: none of these. An answer is right where it is exactly the truth,
all labels of a multilabel row included; an answer to a row out of scope is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from etude.config.decision import AbstainConfig
from etude.core.task import Task

Score = Literal["probability", "margin", "entropy", "energy"]
SCORES: tuple[Score, ...] = ("probability", "margin", "entropy", "energy")

_Z_95 = 1.6449
"""The one-sided 95 % point of the normal distribution."""


@dataclass(frozen=True, slots=True)
class Abstention:
    """When rows are answered.

    Attributes:
        score: what certainty is.
        threshold: the least certainty that is answered.
    """

    score: Score
    threshold: float

    def answers(self, task: Task, probabilities: NDArray[Any], logits: NDArray[Any]) -> NDArray[np.bool_]:
        """Return which rows (N,) are answered."""
        return certainty(self.score, task, probabilities, logits) >= self.threshold

    def to_json(self) -> dict[str, Any]:
        """Return its two values."""
        return {"score": self.score, "threshold": self.threshold}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Abstention:
        """Undo :meth:`to_json`."""
        return cls(content["score"], float(content["threshold"]))

    def describe(self) -> str:
        """Return what it does in one sentence."""
        names = {"probability": "highest probability", "margin": "margin", "entropy": "negative entropy",
                 "energy": "energy"}  # fmt: skip
        return f"A row is left unanswered where its {names[self.score]} is under {self.threshold:.4g}."


def certainty(
    score: Score, task: Task, probabilities: NDArray[Any], logits: NDArray[Any]
) -> NDArray[np.float64]:
    """Return how certain each row (N,) is, larger being more certain.

    Args:
        score: which of the four.
        task: the task.
        probabilities: (N, C).
        logits: (N, C).

    >>> from etude.core.task import Multiclass
    >>> p = np.array([[0.7, 0.2, 0.1]])
    >>> certainty("margin", Multiclass(["a", "b", "c"]), p, np.log(p)).round(3)
    array([0.5])
    """
    p, several = probabilities.astype(np.float64), task.kind == "multilabel"
    if score == "probability":
        return p.max(axis=1)
    if score == "margin":
        if several:
            return np.abs(2.0 * p - 1.0).min(axis=1)
        highest = np.partition(p, -2, axis=1)[:, -2:]
        return highest[:, 1] - highest[:, 0]
    if score == "entropy":
        return (_p_log_p(p) + _p_log_p(1.0 - p)).mean(axis=1) if several else _p_log_p(p).sum(axis=1)
    z = logits.astype(np.float64)
    if several:
        return np.logaddexp(0.0, z).sum(axis=1)
    top = z.max(axis=1)
    return top + np.log(np.exp(z - top[:, None]).sum(axis=1))


def _p_log_p(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return p log p (N, C), which is 0 at 0."""
    return p * np.log(np.maximum(p, np.finfo(np.float64).tiny))


@dataclass(frozen=True)
class HeldOut:
    """What abstaining is fitted on.

    Attributes:
        certainties: (N,) of each score.
        answered: (N,) whether the row has a label before anything is held back.
        right: (N,) whether its labels are exactly the truth.
        in_scope: (N,) whether it belongs to a class.
    """

    certainties: Mapping[Score, NDArray[np.float64]]
    answered: NDArray[np.bool_]
    right: NDArray[np.bool_]
    in_scope: NDArray[np.bool_]


def fit_abstention(config: AbstainConfig, rows: HeldOut) -> tuple[Abstention, str]:
    """Return when to answer, and a sentence on what that gave on the held-out rows.

    * ``by = "risk"``: the most rows whose error rate is at most the target, or, where no threshold reaches
      it, the most rows at the lowest error rate there is.
    * ``by = "coverage"``: the highest threshold that answers at least the target's share of all rows.
    * ``by = "out_of_scope"``: the lowest threshold that leaves at least the target's share of the rows out of
      scope unanswered.

    With the score ``"auto"`` the one is taken that answers most rows (risk), errs least (coverage) or answers
    most rows in scope rightly (out of scope), and of equals the first.
    """
    scores = SCORES if config.score == "auto" else (config.score,)
    fitted = [(score, *_fit(config, rows, rows.certainties[score])) for score in scores]
    score, threshold, _ = max(fitted, key=lambda found: found[2])
    return Abstention(score, threshold), _sentence(config, rows, rows.certainties[score] >= threshold)


def _fit(
    config: AbstainConfig, rows: HeldOut, certainties: NDArray[np.float64]
) -> tuple[float, tuple[float, float]]:
    """The threshold, and how well it serves: how short of the target it is, and what it gives then."""
    order = np.argsort(-certainties, kind="stable")
    falling = certainties[order]
    # Cuts answer the k most certain rows; rows of one certainty are answered together or not at all.
    ends = np.flatnonzero(np.append(falling[1:] < falling[:-1], True)) + 1
    answered = np.cumsum(rows.answered[order])[ends - 1]
    wrong = np.cumsum((rows.answered & ~rows.right)[order])[ends - 1]
    error = np.divide(wrong, answered, out=np.zeros(len(ends)), where=answered > 0)
    if config.by == "risk":
        reached = np.where(answered > 0, error, np.inf)
        at = np.flatnonzero(reached <= max(config.goal, reached.min()))[-1]
        short = min(0.0, config.goal - float(error[at]))
        return _between(falling, int(ends[at])), (short, float(answered[at]))
    if config.by == "coverage":
        enough = np.flatnonzero(answered >= config.goal * len(falling))
        at = enough[0] if len(enough) else len(ends) - 1
        short = min(0.0, float(answered[at]) - config.goal * len(falling))
        return _between(falling, int(ends[at])), (short, -float(error[at]))
    return _leave_out_of_scope(config.goal, rows, order, falling, ends)


def _leave_out_of_scope(
    goal: float, rows: HeldOut, order: NDArray[np.intp], falling: NDArray[np.float64], ends: NDArray[np.intp]
) -> tuple[float, tuple[float, float]]:
    """The lowest threshold with the recall of out-of-scope rows, and the rows in scope answered rightly."""
    ends = np.concatenate([[0], ends])
    outside = ~rows.in_scope
    taken = np.concatenate([[0], np.cumsum((outside & rows.answered)[order])])[ends]
    right = np.concatenate([[0], np.cumsum(rows.right[order] & rows.in_scope[order])])[ends]
    at = np.flatnonzero(outside.sum() - taken >= goal * outside.sum() - 1e-9)[-1]
    return _between(falling, int(ends[at])), (0.0, float(right[at]))


def _between(falling: NDArray[np.float64], k: int) -> float:
    """The threshold that answers the k most certain rows: halfway to the next, or the last itself."""
    if k == 0:
        return float(np.nextafter(falling[0], np.inf))
    if k == len(falling):
        return float(falling[-1])
    middle = float(falling[k] + (falling[k - 1] - falling[k]) / 2.0)
    return middle if middle > falling[k] else float(falling[k - 1])


def _sentence(config: AbstainConfig, rows: HeldOut, certain: NDArray[np.bool_]) -> str:
    """What the threshold gave, with how large the error may be on other rows."""
    answered = certain & rows.answered
    n = int(answered.sum())
    if n == 0:
        return f"abstaining by {config.by} leaves all {len(certain)} held-out rows unanswered"
    wrong = int((answered & ~rows.right).sum())
    text = (
        f"abstaining by {config.by} answers {n} of {len(certain)} held-out rows, {wrong / n:.1%} of them "
        f"wrongly, which on other rows may be up to {highest_error(wrong, n):.1%} (95 % confidence)"
    )
    outside = ~rows.in_scope
    if outside.any():
        left = int((outside & ~answered).sum())
        text += f"; {left} of {int(outside.sum())} out-of-scope rows are left unanswered"
    if config.by == "risk" and wrong / n > config.goal:
        text += f"; no threshold reaches the target of {config.goal:.1%}"
    if config.by == "coverage" and n < config.goal * len(certain):
        text += f"; the thresholds leave too few rows with a label for the target of {config.goal:.1%}"
    return text


def highest_error(wrong: int, n: int) -> float:
    """Return the error rate that n rows with so many errors leave possible, at 95 % (Wilson 1927).

    It takes the threshold as given; that it was chosen on the same rows makes it a little too low.

    >>> round(highest_error(5, 100), 4)
    0.0992
    """
    p, z = wrong / n, _Z_95
    middle = p + z * z / (2 * n)
    spread = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return float((middle + spread) / (1 + z * z / n))

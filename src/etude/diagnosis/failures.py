"""Where does the model fail: the rows themselves, and the labels that it mixes up.

Shapes: N rows, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from etude.diagnosis.evidence import Evidence
from etude.diagnosis.verdict import Question, Verdict
from etude.evaluation.scored import Scored

SHOWN = 20
"""Rows of each kind that a verdict carries."""
TEXT_LENGTH = 300
CONFIDENT = 0.9
MANY_CONFIDENT = 0.02
"""A share of rows that are wrong with confidence, from which they are worth a look."""
MANY_DOUBTFUL = 0.05
"""The same of rows whose given label the model contradicts as surely as it affirms others."""
_EPS = 1e-12

QUESTION = Question("failures", "Where does it fail?")


class Failure(NamedTuple):
    """One row that is worth reading.

    Attributes:
        row: its place in the part's file, counted from 0.
        text: its beginning.
        labels, predicted: what the data say of it, and the model.
        value: its loss, its confidence or its margin, whatever it is listed by.
    """

    row: int
    text: str
    labels: list[str]
    predicted: list[str]
    value: float


def row_losses(scored: Scored) -> NDArray[np.float64]:
    """Return the loss (N,) of each row: the negative log of the probability that its labels got.

    Of a row out of scope it is that of the probability left beside the likeliest label; of any subset of
    labels it is the mean over labels. A probability that is not finite counts as 0.

    >>> from etude.core.task import Multiclass
    >>> p = np.array([[0.5, 0.5], [0.9, 0.1]])
    >>> rows = Scored(Multiclass(["a", "b"]), p, p, p > 0.5, np.eye(2), ["", ""], np.arange(2))
    >>> row_losses(rows).round(3).tolist()
    [0.693, 2.303]
    """
    p = _finite(scored)
    targets = scored.targets.astype(np.float64)
    said, denied = np.log(np.clip(p, _EPS, 1)), np.log(np.clip(1 - p, _EPS, 1))
    if scored.task.kind == "multilabel":
        return -np.asarray((targets * said + (1 - targets) * denied).mean(axis=1))
    inside = targets.sum(axis=1) > 0
    return np.where(inside, -(targets * said).sum(axis=1), -denied.min(axis=1))


def _finite(scored: Scored) -> NDArray[np.float64]:
    """The probabilities (N, C), 0 where they are no numbers."""
    p = scored.probabilities.astype(np.float64)
    return np.where(np.isfinite(p), p, 0.0).clip(0.0, 1.0)


def confidences(scored: Scored) -> NDArray[np.float64]:
    """Return how sure (N,) the model is of what it decided: of the least sure label of any subset."""
    p = _finite(scored)
    if scored.task.kind == "multilabel":
        return np.asarray(np.where(scored.decisions, p, 1 - p).min(axis=1))
    return np.asarray(p.max(axis=1))


def margins(scored: Scored) -> NDArray[np.float64]:
    """Return the model's confusion (N,) turned round: how far the decided labels lead the next one.

    For one label it is the difference of the two highest probabilities; for any subset that of the
    least likely label given and the likeliest not given.
    """
    p = _finite(scored)
    if scored.task.kind == "multilabel":
        given = np.where(scored.decisions, p, 1.0).min(axis=1)
        left = np.where(scored.decisions, 0.0, p).max(axis=1)
        return np.abs(given - left)
    if p.shape[1] < 2:
        return np.ones(len(p))
    highest = np.sort(p, axis=1)[:, -2:]
    return np.asarray(highest[:, 1] - highest[:, 0])


def doubtful_labels(scored: Scored) -> NDArray[np.int64]:
    """Return the rows whose given label may be wrong, the most doubtful first.

    The rule of confident learning (Northcutt et al. 2021, 1911.00068): a label is believed of a row
    where its probability reaches the mean that it has over the rows that carry it. A row is doubtful
    where the likeliest believed label is not the one given. Of any subset each label is judged by
    itself, present against absent, and the row counts if one of them is doubtful.
    """
    p, truth = _finite(scored), scored.truth
    if scored.task.kind == "multilabel":
        doubt = np.maximum(_doubt(p, truth), _doubt(1 - p, ~truth)).max(axis=1)
    else:
        own = np.where(truth, p, 0).sum(axis=1)
        others = np.where(truth | ~_believed(p, truth), 0, p).max(axis=1)
        doubt = np.where(truth.any(axis=1) & (others > own), others - own, 0)
    order = np.argsort(-doubt, kind="stable")
    return order[doubt[order] > 0]


def _believed(p: NDArray[np.float64], truth: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where the probability (N, C) reaches the label's mean over the rows that carry it."""
    n = truth.sum(axis=0)
    means = np.where(n > 0, (p * truth).sum(axis=0) / np.maximum(n, 1), np.inf)
    return p >= means


def _doubt(p: NDArray[np.float64], truth: NDArray[np.bool_]) -> NDArray[np.float64]:
    """How surely (N, C) each label is believed where it is not given."""
    return np.where(_believed(p, truth) & ~truth & (p > 0.5), p, 0.0)


def listed(scored: Scored, positions: NDArray[np.int64], values: NDArray[Any]) -> list[Failure]:
    """Return rows as they are shown: with the beginning of the text, and the labels' names."""
    names, said = scored.task.names(scored.truth[positions]), scored.task.names(scored.decisions[positions])
    return [
        Failure(int(scored.rows[i]), text_of(scored.texts, int(i)), names[k], said[k], float(values[i]))
        for k, i in enumerate(positions)
    ]


def text_of(texts: Sequence[str], i: int) -> str:
    """The beginning of a row's text, or nothing where there are no texts."""
    text = texts[i] if i < len(texts) else ""
    return text if len(text) <= TEXT_LENGTH else f"{text[:TEXT_LENGTH]} …"


def find_failures(scored: Scored, shown: int = SHOWN) -> dict[str, list[Failure]]:
    """Return the rows to read, by kind.

    ``"highest_losses"``; ``"confident_mistakes"``, by falling confidence; ``"smallest_margins"``, where
    the model hesitates; ``"doubtful_labels"``, where the data may be wrong.
    """
    wrong = (scored.decisions != scored.truth).any(axis=1)
    losses, sure, lead = row_losses(scored), confidences(scored), margins(scored)
    by_sureness = np.argsort(-sure, kind="stable")
    mistakes = by_sureness[wrong[by_sureness] & (sure[by_sureness] >= CONFIDENT)]
    by_loss = np.argsort(-losses, kind="stable")
    return {
        "highest_losses": listed(scored, by_loss[wrong[by_loss]][:shown], losses),
        "confident_mistakes": listed(scored, mistakes[:shown], sure),
        "smallest_margins": listed(scored, np.argsort(lead, kind="stable")[:shown], lead),
        "doubtful_labels": listed(scored, doubtful_labels(scored)[:shown], losses),
    }


def failures(evidence: Evidence) -> Verdict:
    """List the failures of the validation part, so that looking at them spends no test rows."""
    found = evidence.part("validation", "test", "train")
    if found is None:
        return QUESTION.answer("unknown", "There are no predictions to look at.")
    part, scored = found
    wrong = (scored.decisions != scored.truth).any(axis=1)
    n_wrong, n = int(wrong.sum()), len(scored)
    n_sure = int((wrong & (confidences(scored) >= CONFIDENT)).sum())
    n_doubtful = len(doubtful_labels(scored))
    rows = {kind: [row._asdict() for row in rows] for kind, rows in find_failures(scored).items()}
    facts = {"part": part, "rows": n, "wrong": n_wrong, "confident": n_sure, "doubtful": n_doubtful, **rows}
    sentence = (
        f"{n_wrong:,} of {n:,} rows of the {part} part are wrong ({n_wrong / n:.1%}), {n_sure:,} of them "
        f"with a confidence of {CONFIDENT:.0%} or more; {n_doubtful:,} given labels are doubtful."
    )
    advice = []
    if n_sure > MANY_CONFIDENT * n:
        advice.append(
            "Read the confident mistakes: they are wrong labels, or rows that the training data lack."
        )
    if n_doubtful > MANY_DOUBTFUL * n:
        advice.append("Check the doubtful labels, and correct them where the model is right.")
    return QUESTION.answer("look" if advice else "good", sentence, facts, *advice)

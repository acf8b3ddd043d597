"""Which labels are mixed up: the confusion matrix, and the most confused pairs.

Shapes: N rows, C labels.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from etude.diagnosis.evidence import Evidence
from etude.diagnosis.verdict import Question, Verdict
from etude.evaluation.scored import Scored

SHOWN = 20
LARGE_SHARE = 0.2
"""A pair with more than this share of all mistakes is worth a look."""
FEWEST = 5
"""Rows below which a pair may be chance."""
NONE = "(none)"
"""What stands for a row out of scope, and for one that the model did not answer."""

QUESTION = Question("confusion", "Which labels does it confuse?")


class Pair(NamedTuple):
    """Two labels that are mixed up: rows of ``label`` that got ``instead``.

    Attributes:
        rows: how many.
        share: of the rows that carry ``label``.
    """

    label: str
    instead: str
    rows: int
    share: float


def confusion_matrix(scored: Scored) -> tuple[list[str], NDArray[np.int64]]:
    """Return names and counts, true labels down and decided ones across.

    One label for each row: the usual matrix, with a further name for rows out of scope or without an
    answer where there are any. Any subset: off the diagonal a row counts where the label down was
    missed and the label across was added; on it, where a label was found.

    >>> from etude.core.task import Multiclass
    >>> p = np.array([[0.9, 0.1], [0.8, 0.2]])
    >>> rows = Scored(Multiclass(["a", "b"]), p, p, p > 0.5, np.eye(2), ["", ""], np.arange(2))
    >>> confusion_matrix(rows)[1].tolist()
    [[1, 0], [1, 0]]
    """
    truth, said, names = scored.truth, scored.decisions, list(scored.task.labels)
    if scored.task.kind == "multilabel":
        missed, added = (truth & ~said).astype(np.float64), (said & ~truth).astype(np.float64)
        counts = missed.T @ added
        np.fill_diagonal(counts, (truth & said).sum(axis=0))
        return names, counts.astype(np.int64)
    c = len(names)
    down = np.where(truth.any(axis=1), truth.argmax(axis=1), c)
    across = np.where(said.any(axis=1), said.argmax(axis=1), c)
    matrix = np.zeros((c + 1, c + 1), dtype=np.int64)
    np.add.at(matrix, (down, across), 1)
    if matrix[c].any() or matrix[:, c].any():
        return [*names, NONE], matrix
    return names, matrix[:c, :c]


def confused_pairs(scored: Scored, shown: int = SHOWN) -> list[Pair]:
    """Return the most confused pairs, the most frequent first, and of equals the greater share."""
    names, matrix = confusion_matrix(scored)
    carried = np.maximum(scored.truth.sum(axis=0), 1).tolist()
    carried += [max(int((~scored.truth.any(axis=1)).sum()), 1)] * (len(names) - len(carried))
    pairs = [
        Pair(names[i], names[j], int(matrix[i, j]), float(matrix[i, j]) / carried[i])
        for i, j in zip(*np.nonzero(matrix), strict=True)
        if i != j
    ]
    return sorted(pairs, key=lambda pair: (-pair.rows, -pair.share, pair.label, pair.instead))[:shown]


def confusion(evidence: Evidence) -> Verdict:
    """Name the most confused pairs of the validation part."""
    found = evidence.part("validation", "test", "train")
    if found is None:
        return QUESTION.answer("unknown", "There are no predictions to look at.")
    part, scored = found
    pairs = confused_pairs(scored)
    wrong = int((scored.decisions != scored.truth).any(axis=1).sum())
    facts = {"part": part, "wrong": wrong, "pairs": [pair._asdict() for pair in pairs]}
    if not pairs:
        left = f"; its {wrong:,} mistakes miss or add single labels" if wrong else ""
        return QUESTION.answer("good", f"No label of the {part} part was taken for another{left}.", facts)
    first = pairs[0]
    share = first.rows / wrong
    words = (
        f"'{first.label}' was taken for '{first.instead}' in {first.rows:,} rows, {first.share:.0%} of its "
        f"rows and {share:.0%} of all mistakes of the {part} part"
    )
    # With few labels every mistake is in some pair, so that a pair's share is high by itself.
    even = 1 / max(scored.task.n_classes * (scored.task.n_classes - 1), 1)
    if first.rows >= FEWEST and share > max(LARGE_SHARE, 2 * even):
        return QUESTION.answer(
            "look",
            f"One pair stands out: {words}.",
            facts,
            f"Read rows of '{first.label}' and '{first.instead}': the labels may overlap, or need more rows.",
        )
    return QUESTION.answer("good", f"No pair stands out; the most frequent one: {words}.", facts)

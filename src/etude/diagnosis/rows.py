"""Which training rows are never learned, or learned and forgotten?"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from etude.diagnosis.evidence import Evidence, RowLosses
from etude.diagnosis.failures import text_of
from etude.diagnosis.verdict import Question, Verdict

QUESTION = Question("rows", "Are there training rows that it cannot learn?")
HIGH = 0.95
"""A loss above this quantile of its epoch is high."""
SHOWN = 20
MANY = 0.01


def never_learned(losses: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the rows whose loss (N, E) was high in every epoch after the first, the highest first.

    A loss is high above the 95 % quantile of its epoch. Such rows often carry a wrong label.

    >>> losses = np.tile(np.linspace(0, 1, 100, dtype=np.float32)[:, None], 4)
    >>> never_learned(losses).tolist()
    [99, 98, 97, 96, 95]
    """
    late = losses[:, 1:]
    seen = np.isfinite(late)
    high = np.where(seen, late > _quantile(late, HIGH), True)
    found = np.flatnonzero(high.all(axis=1) & (seen.sum(axis=1) >= 2))
    return found[np.argsort(-np.nanmean(late[found], axis=1), kind="stable")] if len(found) else found


def forgotten(losses: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the rows whose loss (N, E) was low once and is high in the end, the highest first.

    Low is below the median of an earlier epoch. Toneva et al. 2019 (1812.05159) count such events.
    """
    seen = np.isfinite(losses)
    low = np.where(seen, losses < _quantile(losses, 0.5), False)[:, :-1].any(axis=1)
    last = losses[:, -1]
    high = np.where(np.isfinite(last), last > _quantile(losses[:, -1:], HIGH)[0], False)
    found = np.flatnonzero(low & high)
    return found[np.argsort(-last[found], kind="stable")]


def _quantile(losses: NDArray[np.float32], q: float) -> NDArray[np.float32]:
    """The quantile of each epoch (E,), nan where no row was seen."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # an epoch without a row
        return np.asarray(np.nanquantile(np.where(np.isfinite(losses), losses, np.nan), q, axis=0))


def rows(evidence: Evidence) -> Verdict:
    """List rows with a high loss in all epochs, and rows that were forgotten."""
    found = evidence.losses
    epochs = 0 if found is None else found.losses.shape[1]
    if found is None or epochs < 3 or len(found.rows) == 0:
        lacking = "were not kept (loss_history keeps them)" if found is None else f"span {epochs} epochs"
        return QUESTION.answer(
            "unknown", f"The losses of single rows {lacking}; three epochs are needed to tell."
        )
    hard, lost = never_learned(found.losses), forgotten(found.losses)
    n = len(found.rows)
    facts = {
        "rows": n, "never_learned": len(hard), "forgotten": len(lost),
        "never_learned_rows": _listed(found, hard), "forgotten_rows": _listed(found, lost),
    }  # fmt: skip
    words = (
        f"{len(hard):,} of {n:,} training rows kept a high loss in all epochs ({len(hard) / n:.1%}), and "
        f"{len(lost):,} were learned and forgotten"
    )
    if len(hard) > MANY * n:
        return QUESTION.answer(
            "look",
            f"{words}; such rows often carry a wrong label.",
            facts,
            "Read them first: correct the labels that are wrong, and keep what is only difficult.",
        )
    return QUESTION.answer("good", f"Hardly: {words}.", facts)


def _listed(found: RowLosses, positions: NDArray[np.int64]) -> list[dict[str, object]]:
    return [
        {
            "row": int(found.rows[i]),
            "text": text_of(found.texts, int(i)),
            "labels": list(found.labels[i]) if i < len(found.labels) else [],
            "losses": [float(loss) for loss in found.losses[i]],
        }
        for i in positions[:SHOWN]
    ]

"""Where a model fails: the matrix, the pairs, and the rows themselves with their texts."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from etude.diagnosis.confusion import confused_pairs, confusion_matrix
from etude.diagnosis.failures import confidences, doubtful_labels, margins, row_losses
from etude.evaluation.scored import Scored
from etude.report.charts import heat_map
from etude.report.curves import Chart
from etude.report.page import Column, Excerpt, Table, excerpt
from etude.report.record import Limits, RunRecord
from etude.report.words import plural, short_names

PAIRS = 12
EXAMPLES_OF_A_PAIR = 2


def confusion_chart(record: RunRecord, limits: Limits) -> Chart | None:
    """The confusion matrix, of many labels the part of it that holds the most mistakes."""
    found = record.held_out()
    if found is None:
        return None
    part, scored = found
    names, counts = confusion_matrix(scored)
    shown, names = _most_confused(counts, limits.labels), short_names(names)
    several = scored.task.kind == "multilabel"
    totals = np.maximum(_carried(scored, len(names)), 1)
    cells = [
        {
            "r": names[i],
            "c": names[j],
            "n": int(counts[i, j]),
            "share": counts[i, j] / totals[i],
            "same": bool(i == j),
        }
        for i in shown
        for j in shown
    ]
    off = int(counts.sum() - np.trace(counts))
    inside = counts[np.ix_(shown, shown)]
    seen = int(inside.sum() - np.trace(inside))
    what = (
        "Off the diagonal a row counts where the label on the left was missed and the one on top was added"
        if several
        else "Rows are true labels, columns what the model said"
    )
    sentence = f"{what}; the strength is the share of the true label's rows, {part} part."
    if len(shown) < len(names):
        sentence += (
            f" Of {len(names):,} labels the {len(shown)} with the most mistakes are drawn, which hold "
            f"{seen:,} of {off:,} confusions."
        )
    spec = heat_map(
        cells,
        sentence=sentence,
        rows=[names[i] for i in shown],
        columns=[names[i] for i in shown],
        y="missed" if several else "true",
        x="added" if several else "predicted",
    )
    return Chart("confusion", "", sentence, spec)


def _most_confused(counts: NDArray[np.int64], most: int) -> list[int]:
    """The labels with the most mistakes, in their own order."""
    if len(counts) <= most:
        return list(range(len(counts)))
    wrong = counts.sum(axis=0) + counts.sum(axis=1) - 2 * np.diag(counts)
    return sorted(np.argsort(-wrong, kind="stable")[:most].tolist())


def _carried(scored: Scored, n_names: int) -> NDArray[np.int64]:
    """How many rows carry each label; those without a label count for the further name."""
    carried = scored.truth.sum(axis=0)
    none = int((~scored.truth.any(axis=1)).sum())
    return np.concatenate([carried, np.full(n_names - len(carried), none)])


def pairs_table(record: RunRecord, limits: Limits) -> Table | None:
    """The most confused pairs with rows to read."""
    found = record.held_out()
    if found is None:
        return None
    part, scored = found
    pairs = confused_pairs(scored, shown=min(PAIRS, limits.examples))
    if not pairs:
        return None
    losses = row_losses(scored)
    columns = [
        Column("True", "label"),
        Column("Said instead", "label"),
        Column("Rows", "count"),
        Column("Share of the label", "score"),
        Column("For example", "excerpt"),
    ]
    rows = [
        [
            pair.label,
            pair.instead,
            pair.rows,
            pair.share,
            _example(scored, pair.label, pair.instead, losses, limits),
        ]
        for pair in pairs
    ]
    caption = f"The most confused pairs of the {part} part, with the row of the highest loss."
    return Table(caption, columns, rows)


def _example(scored: Scored, label: str, instead: str, losses: NDArray[np.float64], limits: Limits) -> Any:
    """The row of a pair that the model is most wrong about."""
    missed, added = scored.truth & ~scored.decisions, scored.decisions & ~scored.truth
    rows = _with(scored, missed, scored.truth, label) & _with(scored, added, scored.decisions, instead)
    positions = np.flatnonzero(rows)
    if not len(positions) or not len(scored.texts):
        return None
    worst = int(positions[losses[positions].argmax()])
    return excerpt(scored.texts[worst], limits.characters // 2)


def _with(
    scored: Scored, changed: NDArray[np.bool_], given: NDArray[np.bool_], name: str
) -> NDArray[np.bool_]:
    """Rows (N,) in which the label changed; the name of no label stands for rows that have none."""
    if name in scored.task.labels:
        return np.asarray(changed[:, scored.task.position(name)])
    return np.asarray(~given.any(axis=1))


class Listing(NamedTuple):
    """Rows to read, in the order in which they are worth reading.

    Attributes:
        title, words: what they are, in short and at length.
        value: what the numbers are that they are ordered by.
        positions: (M,) of the rows.
        values: (N,) the numbers of all rows.
    """

    title: str
    words: str
    value: str
    positions: NDArray[np.int64]
    values: NDArray[np.float64]


def failure_tables(record: RunRecord, limits: Limits) -> list[tuple[str, Table]]:
    """Rows to read by kind, each kind with its title."""
    found = record.held_out()
    if found is None:
        return []
    part, scored = found
    return [
        (listing.title, _rows_table(scored, part, listing, limits))
        for listing in _listings(scored)
        if len(listing.positions)
    ]


def _listings(scored: Scored) -> list[Listing]:
    wrong = (scored.decisions != scored.truth).any(axis=1)
    losses, sure, lead = row_losses(scored), confidences(scored), margins(scored)
    by_loss, by_sureness = np.argsort(-losses, kind="stable"), np.argsort(-sure, kind="stable")
    by_lead = np.argsort(lead, kind="stable")
    doubt = (
        "Where the data may be wrong: the model believes another label as firmly as it believes that label "
        "elsewhere"
    )
    return [
        Listing(
            "Highest losses",
            "Where the truth surprised the model most",
            "Loss",
            by_loss[wrong[by_loss]],
            losses,
        ),
        Listing(
            "Most confident mistakes",
            "Wrong, and sure of it",
            "Sureness",
            by_sureness[wrong[by_sureness]],
            sure,
        ),
        Listing("Smallest margins", "Where the model hesitates, right or wrong", "Margin", by_lead, lead),
        Listing("Doubtful labels", doubt, "Loss", doubtful_labels(scored), losses),
    ]


def _rows_table(scored: Scored, part: str, listing: Listing, limits: Limits) -> Table:
    shown = listing.positions[: limits.examples]
    truth, said = scored.task.names(scored.truth[shown]), scored.task.names(scored.decisions[shown])
    rows = [
        [
            _text(scored, i, limits),
            ", ".join(truth[k]),
            ", ".join(said[k]),
            float(listing.values[i]),
            int(scored.rows[i]),
        ]
        for k, i in enumerate(shown.tolist())
    ]
    columns = [
        Column("Text", "excerpt"),
        Column("True", "label"),
        Column("Said", "label"),
        Column(listing.value, "number" if listing.value == "Margin" else "score"),
        Column("Row", "count", "Its place in the part's file, counted from 0"),
    ]
    left = len(listing.positions) - len(shown)
    left_out = f"{plural(left, 'further row')} not shown." if left else ""
    return Table(f"{listing.words} ({part} part).", columns, rows, left_out)


def _text(scored: Scored, position: int, limits: Limits) -> Excerpt | None:
    return excerpt(scored.texts[position], limits.characters) if position < len(scored.texts) else None


def never_learned(record: RunRecord, limits: Limits) -> Table | None:
    """Training rows whose loss stayed high to the end."""
    known = record.losses
    if known is None or known.losses.size == 0 or known.losses.shape[1] < 2:
        return None
    late = known.losses[:, -max(known.losses.shape[1] // 2, 1) :].astype(np.float64)
    seen = np.isfinite(late)
    totals = np.where(seen, late, 0.0).sum(axis=1)
    means = np.divide(totals, seen.sum(axis=1), out=np.full(len(late), -np.inf), where=seen.any(axis=1))
    shown = np.argsort(-means, kind="stable")[: limits.examples]
    columns = [
        Column("Text", "excerpt"),
        Column("Label", "label"),
        Column("First epoch", "score"),
        Column("Second half", "score", "The mean loss over the second half of the epochs"),
        Column("Row", "count", "Its place in the training file, counted from 0"),
    ]
    rows = [
        [
            excerpt(known.texts[i], limits.characters) if i < len(known.texts) else None,
            ", ".join(known.labels[i]) if i < len(known.labels) else None,
            float(known.losses[i, 0]),
            float(means[i]),
            int(known.rows[i]),
        ]
        for i in shown.tolist()
        if np.isfinite(means[i])
    ]
    caption = (
        "Training rows with the highest losses in the second half of the run: wrong labels, or hard rows."
    )
    return Table(caption, columns, rows) if rows else None

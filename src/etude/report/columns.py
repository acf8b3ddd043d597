"""What the columns of a table contribute to a model that tells it: boosted trees, logistic regression."""

from __future__ import annotations

from collections.abc import Mapping

from etude.report.page import Column, Table
from etude.report.record import RunRecord
from etude.report.sections import number_at

MOST_COLUMNS = 30


def columns_table(record: RunRecord) -> Table | None:
    """The share of each column, the largest first; None where the run tells none."""
    told = record.summary.get("importances")
    if not isinstance(told, Mapping):
        return None
    shares = [(str(name), number_at(told, name)) for name in told]
    known = sorted(((name, share) for name, share in shares if share is not None), key=lambda one: -one[1])
    if not known:
        return None
    left = len(known) - MOST_COLUMNS
    left_out = f"{left} columns with smaller shares are left out." if left > 0 else ""
    cells = [[name, share] for name, share in known[:MOST_COLUMNS]]
    title = "What each column contributes to what the model says of its training rows; the shares sum to 1."
    return Table(title, [Column("Column"), Column("Share", "bar")], cells, left_out)


def fitted_over(record: RunRecord) -> str:
    """What a fit by one call counts in the place of steps, as ``"rounds"``; nothing for a network."""
    told = record.summary.get("fit")
    return str(told.get("unit", "")) if isinstance(told, Mapping) else ""

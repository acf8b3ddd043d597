"""Rows out of scope: their label is no class to be learned, but "the model should abstain here".

They are left out of training, and are rows without any label in the parts that are scored, so that a
classifier of one label for each row can be measured on what it should not answer. Rows of several labels
need no such thing: there, a row without a label says the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from etude.core.task import Kind, Task
from etude.data.labels import Labels, build_task, check_part, infer_kind
from etude.errors import DataError, closest


def set_aside(labels: Labels, label: str | None) -> Labels:
    """Return the labels with the rows of ``label`` alone having none, and without it in their order.

    Raises:
        DataError: the labels are soft.

    >>> from etude.data.labels import read_labels
    >>> from etude.data.table import Table
    >>> table = Table("a.csv", {"label": ["pay", "other", "send"]}, range(1, 4))
    >>> set_aside(read_labels(table, "label"), "other").names
    [['pay'], [], ['send']]
    """
    if label is None:
        return labels
    if labels.shares is not None:
        raise DataError(
            f"data.out_of_scope = {label!r} needs certain labels and {labels.table.path}, column "
            f"{labels.column!r} holds shares of labels; remove the setting"
        )
    order = None if labels.order is None else tuple(name for name in labels.order if name != label)
    return replace(labels, names=[[] if row == [label] else row for row in labels.names], order=order)


def build_scoped_task(kind: Kind | Literal["auto"], labels: Labels, label: str | None) -> Task:
    """Return the task over the labels that are in scope, as :func:`~etude.data.labels.build_task`.

    Args:
        kind: the task, or ``"auto"``.
        labels: what :func:`set_aside` returned.
        label: the label that is out of scope, if any.

    Raises:
        DataError: the task has several labels for each row, or the rows in scope do not fit it.
    """
    if label is None:
        return build_task(kind, labels)
    if (infer_kind(labels) if kind == "auto" else kind) == "multilabel":
        raise DataError(
            f"data.out_of_scope = {label!r} is for tasks of one label in each row; in this multilabel task a "
            "row without labels says the same, so empty those rows' labels and remove the setting"
        )
    return build_task(kind, in_scope(labels))


def check_scoped_part(labels: Labels, task: Task, train_path: str, label: str | None) -> None:
    """Refuse rows of another part that do not fit the task, but for those out of scope.

    Raises:
        DataError: as :func:`~etude.data.labels.check_part`.
    """
    check_part(labels if label is None else in_scope(labels), task, train_path)


def in_scope(labels: Labels) -> Labels:
    """Return the labels of the rows that have one; the places of rows stay theirs."""
    rows = [row for row, names in enumerate(labels.names) if names]
    return replace(labels, names=[labels.names[row] for row in rows], table=labels.table.take(rows))


def refuse_unknown(label: str, parts: Iterable[Labels]) -> None:
    """Refuse a label out of scope that no row of any part has.

    Raises:
        DataError: names the closest label.
    """
    listed = list(parts)
    if any(not names for labels in listed for names in labels.names):
        return
    known = {name for labels in listed for names in labels.names for name in names}
    files = ", ".join(dict.fromkeys(labels.table.path for labels in listed))
    raise DataError(
        f"data.out_of_scope = {label!r} is the label of no row of {files}{closest(label, known)}; name a "
        "label that occurs, or remove the setting"
    )


def out_of_scope_rows(labels: Labels, rows: NDArray[np.int64]) -> int:
    """The number of those rows that have no label."""
    return sum(not labels.names[row] for row in rows.tolist())

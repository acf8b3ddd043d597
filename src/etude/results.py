"""Results as text for standard output: scores as a small table, anything as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

SHOWN = (
    "accuracy", "in_scope_accuracy", "oos_recall", "coverage", "balanced_accuracy", "f1", "f1_macro",
    "f1_micro", "mcc", "roc_auc", "average_precision", "hamming_loss", "loss", "ece",
)  # fmt: skip
"""The metrics that a table shows, in this order; all of them are in summary.json."""

Scores = Mapping[str, Mapping[str, float]]


def stages_table(stages: Sequence[Mapping[str, Any]]) -> str:
    """Lay stages out, one a line.

    >>> print(stages_table([{"name": "warm", "job": "train", "seconds": 2.5, "said": "test: accuracy 0.9"},
    ...                     {"name": "all", "job": "train", "seconds": 12.0, "said": "test: accuracy 0.95"}]))
    1-warm  train   2.5 s  test: accuracy 0.9
    2-all   train  12.0 s  test: accuracy 0.95
    """
    rows = [
        (f"{number}-{stage['name']}", str(stage["job"]), f"{stage['seconds']:,.1f} s", str(stage["said"]))
        for number, stage in enumerate(stages, start=1)
    ]
    name, job, seconds = (max(len(row[column]) for row in rows) for column in range(3))
    return "\n".join(f"{a:<{name}}  {b:<{job}}  {c:>{seconds}}  {d}".rstrip() for a, b, c, d in rows)


def scores_table(scores: Scores, intervals: Mapping[str, Mapping[str, Sequence[float]]] | None = None) -> str:
    """Lay scores out with metrics as rows and parts of the data as columns, with intervals where known.

    >>> print(scores_table({"validation": {"accuracy": 0.9, "loss": 0.3}, "test": {"accuracy": 0.875}}))
              validation  test
    accuracy  0.9000      0.8750
    loss      0.3000      -
    >>> print(scores_table({"test": {"accuracy": 0.875}}, {"test": {"accuracy": [0.86, 0.89]}}))
              test
    accuracy  0.8750  0.8600 to 0.8900
    """
    found = {metric for part in scores.values() for metric in part}
    metrics = [metric for metric in SHOWN if metric in found]
    rows = [["", *scores]]
    for metric in metrics:
        cells = [
            _cell(values.get(metric), (intervals or {}).get(part, {}).get(metric))
            for part, values in scores.items()
        ]
        rows.append([metric, *cells])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _cell(score: float | None, interval: Sequence[float] | None) -> str:
    if score is None:
        return "-"
    if interval is None:
        return f"{score:.4f}"
    return f"{score:.4f}  {interval[0]:.4f} to {interval[1]:.4f}"


def to_json(value: Any) -> str:
    """Write a result as one line of JSON; a number that JSON has no word for becomes null.

    >>> to_json({"accuracy": 0.5, "auc": float("nan")})
    '{"accuracy": 0.5, "auc": null}'
    """
    return json.dumps(_without_nan(value), ensure_ascii=False, allow_nan=False, default=str)


def _without_nan(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_without_nan(inner) for inner in value]
    return value

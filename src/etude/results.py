"""Results as text for standard output: scores as a small table, anything as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any


def scores_table(scores: Mapping[str, Mapping[str, float]]) -> str:
    """Lay scores out with metrics as rows and parts of the data as columns.

    >>> print(scores_table({"validation": {"accuracy": 0.9, "loss": 0.3}, "test": {"accuracy": 0.875}}))
              validation        test
    accuracy      0.9000      0.8750
    loss          0.3000           -
    """
    metrics = list(dict.fromkeys(metric for part in scores.values() for metric in part))
    name_width = max([len(metric) for metric in metrics], default=0)
    widths = {part: max(len(part), 10) for part in scores}
    lines = ["  ".join([" " * name_width, *(f"{part:>{width}}" for part, width in widths.items())])]
    for metric in metrics:
        cells = [f"{_cell(values.get(metric)):>{widths[part]}}" for part, values in scores.items()]
        lines.append("  ".join([f"{metric:<{name_width}}", *cells]))
    return "\n".join(lines)


def _cell(score: float | None) -> str:
    return "-" if score is None else f"{score:.4f}"


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

"""Numbers, names and lists as people write them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from etude.errors import ConfigError
from etude.evaluation.names import find_metric

_TITLES = {
    "mcc": "MCC",
    "roc_auc": "ROC AUC",
    "ece": "calibration error",
    "brier": "Brier score",
    "nll": "log loss",
    "cohen_kappa": "Cohen's κ",
    "oos_recall": "out-of-scope recall",
    "oos_precision": "out-of-scope precision",
    "in_scope_accuracy": "in-scope accuracy",
}
_AVERAGES = ("macro", "micro", "weighted", "samples")


def metric_title(name: str) -> str:
    """Return the name of a metric as people say it.

    >>> metric_title("f1_macro"), metric_title("balanced_accuracy"), metric_title("top3_accuracy")
    ('macro F1', 'balanced accuracy', 'top-3 accuracy')
    """
    if name in _TITLES:
        return _TITLES[name]
    base, _, average = name.rpartition("_")
    if average in _AVERAGES and base:
        kind = "per-row" if average == "samples" else average
        return f"{kind} {metric_title(base)}"
    if name[:1] == "f" and name[1:2].isdigit():
        return f"F{name[1:]}"
    if name.startswith("top") and name.endswith("_accuracy"):
        return f"top-{name[3:-9]} accuracy"
    return name.replace("_", " ")


def metric_meaning(name: str) -> str:
    """Return a sentence on a metric, or nothing where its name says nothing to us."""
    try:
        metric = find_metric(name)
    except ConfigError:
        return ""
    return f"{metric.meaning}; {'more' if metric.greater_is_better else 'less'} is better"


def short_names(names: Sequence[str], limit: int = 60) -> list[str]:
    """Return names short enough for a chart, which still differ where they did.

    >>> short_names(["a long name", "a long game", "b"], 7)
    ['a long…', 'a long… (2)', 'b']
    """
    found: dict[str, None] = {}
    for name in names:
        short = unique = name if len(name) <= limit else f"{name[: limit - 1]}…"
        number = 2
        while unique in found:
            unique, number = f"{short} ({number})", number + 1
        found[unique] = None
    return list(found)


def plural(n: int, noun: str) -> str:
    """Return a number with its noun.

    >>> plural(1, "row"), plural(1200, "row"), plural(2, "entry")
    ('1 row', '1,200 rows', '2 entries')
    """
    if n == 1:
        return f"1 {noun}"
    return f"{n:,} {noun[:-1] + 'ies' if noun.endswith('y') else noun + 's'}"


def listed(names: Sequence[Any], most: int = 5) -> str:
    """Return names in a sentence.

    >>> listed(["a", "b", "c"]), listed(["a", "b", "c"], 1)
    ('a, b and c', 'a and 2 more')
    """
    shown = [str(name) for name in names[:most]]
    if len(names) > most:
        shown.append(f"{len(names) - most:,} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}" if shown else "none"


def seconds(value: float) -> str:
    """Return a duration.

    >>> seconds(0.42), seconds(83), seconds(4000)
    ('0.4 s', '83 s', '1 h 7 min')
    """
    if value < 10:
        return f"{value:.1f} s"
    if value < 120:
        return f"{value:.0f} s"
    minutes = round(value / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"

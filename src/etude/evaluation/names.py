"""The names of the metrics: what each means, for which tasks, and whether more of it is better.

Names follow scikit-learn's. Three families have names by pattern:

* ``precision``, ``recall``, ``jaccard`` and ``f<beta>`` (``f1``, ``f0.5``, ``f2``) with ``_macro``,
  ``_micro`` or ``_weighted``; with ``_samples`` for multilabel tasks, and alone, of the positive label, for
  binary ones
* ``top<k>_accuracy`` for multiclass tasks: ``top3_accuracy``

This module imports no torch, so that a mistake in a config is answered at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from etude.errors import ConfigError, closest

if TYPE_CHECKING:
    from etude.core.task import Kind

Source = Literal["counts", "rows", "ranks"]
"""What a metric is computed from: counts of labels, a mean over rows, or the order of all scores."""

SINGLE: frozenset[Kind] = frozenset({"binary", "multiclass"})
SEVERAL: frozenset[Kind] = frozenset({"multilabel"})
ALL = SINGLE | SEVERAL

AVERAGES = {
    "macro": "the mean over the labels",
    "micro": "of all labels counted together",
    "weighted": "the mean over the labels, each weighted by its rows",
    "samples": "the mean over the rows",
}
RATIOS = {
    "precision": "of what was predicted, the share that is right",
    "recall": "of what is true, the share that was found",
    "jaccard": "of what is true or predicted, the share that is both",
}
_RATIO = re.compile(r"(precision|recall|jaccard|f(\d+(?:\.\d+)?))(?:_(macro|micro|weighted|samples))?")
_TOP = re.compile(r"top([1-9]\d*)_accuracy")


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes:
        name: as configs, tables and files have it.
        meaning: one sentence.
        kinds: the tasks that it is for.
        source: what it is computed from.
        greater_is_better: whether more of it is better.
        ratio: ``"precision"``, ``"recall"``, ``"jaccard"`` or ``"f"``; empty for metrics of no such family.
        average: one of ``AVERAGES``, or empty for the positive label alone.
        beta: of ``"f"``, how many times as much recall counts as precision.
        k: of ``top<k>_accuracy``; 0 else.
    """

    name: str
    meaning: str
    kinds: frozenset[Kind] = ALL
    source: Source = "counts"
    greater_is_better: bool = True
    ratio: str = ""
    average: str = ""
    beta: float = 1.0
    k: int = 0


_PLAIN = (
    Metric("accuracy", "the share of rows whose labels are all right, and no others; a row out of scope is "
           "right when it is not answered"),
    Metric("balanced_accuracy", "the mean of the classes' recalls", SINGLE),
    Metric("mcc", "Matthews' correlation of truth and decision, from -1 to 1", SINGLE),
    Metric("cohen_kappa", "the agreement of truth and decision beyond chance, at most 1", SINGLE),
    Metric("hamming_loss", "the share of wrong entries among all rows and labels", SEVERAL,
           greater_is_better=False),
    Metric("in_scope_accuracy", "of the rows that belong to a class, the share decided rightly", SINGLE),
    Metric("oos_recall", "of the rows out of scope, the share that was not answered", SINGLE),
    Metric("oos_precision", "of the rows not answered, the share that is out of scope", SINGLE),
    Metric("coverage", "the share of rows that was answered", SINGLE),
    Metric("selective_accuracy", "of the rows answered, the share decided rightly", SINGLE),
    Metric("loss", "the mean negative log-likelihood; for multilabel tasks of an entry", source="rows",
           greater_is_better=False),
    Metric("brier", "the mean squared error of the probabilities; for multiclass tasks summed over the "
           "classes", source="rows", greater_is_better=False),
    Metric("coverage_error", "how many labels of a row, likeliest first, it takes to have all true ones",
           SEVERAL, "rows", greater_is_better=False),
    Metric("roc_auc", "how often a row with a label scores higher on it than one without; the mean over the "
           "labels", source="ranks"),
    Metric("average_precision", "the mean precision at each row that has the label, likeliest first; the "
           "mean over the labels", source="ranks"),
    Metric("ece", "how far confidence is from the share that is right, over 15 bins of equal mass",
           source="ranks", greater_is_better=False),
)  # fmt: skip
PLAIN = {metric.name: metric for metric in _PLAIN}

_SINGLE_DEFAULTS = ("accuracy", "balanced_accuracy", "f1_macro", "f1_micro", "f1_weighted", "precision_macro",
                    "recall_macro", "mcc", "cohen_kappa")  # fmt: skip
_PROBABILITY_DEFAULTS = ("loss", "brier", "roc_auc", "average_precision", "ece")
_DEFAULTS: dict[Kind, tuple[str, ...]] = {
    "binary": (*_SINGLE_DEFAULTS, "f1", "precision", "recall", *_PROBABILITY_DEFAULTS),
    "multiclass": (*_SINGLE_DEFAULTS, "top3_accuracy", *_PROBABILITY_DEFAULTS),
    "multilabel": ("accuracy", "f1_macro", "f1_micro", "f1_weighted", "f1_samples", "precision_macro",
                   "precision_micro", "recall_macro", "recall_micro", "jaccard_macro", "jaccard_samples",
                   "hamming_loss", "coverage_error", *_PROBABILITY_DEFAULTS),
}  # fmt: skip


def default_metrics(kind: Kind, n_classes: int | None = None) -> tuple[str, ...]:
    """The metrics of a task that are computed where nobody names others.

    Where ``n_classes`` is given, a top-k accuracy that could not fail is left out.

    >>> default_metrics("multiclass", 3)[:3], "top3_accuracy" in default_metrics("multiclass", 3)
    (('accuracy', 'balanced_accuracy', 'f1_macro'), False)
    """
    names = _DEFAULTS[kind]
    if n_classes is None:
        return names
    return tuple(name for name in names if not 0 < find_metric(name).k >= n_classes)


def quick_metrics(kind: Kind, n_classes: int | None = None) -> tuple[str, ...]:
    """The default metrics that need no sorting of scores, for scoring during training.

    >>> "f1_macro" in quick_metrics("multilabel"), "roc_auc" in quick_metrics("multilabel")
    (True, False)
    """
    return tuple(name for name in default_metrics(kind, n_classes) if find_metric(name).source != "ranks")


def check_metric(name: str, kind: Kind) -> Metric:
    """Return the metric of a name that suits a kind of task.

    Raises:
        ConfigError: there is no such metric, or not for this kind.

    >>> check_metric("f0.5_macro", "multilabel").beta
    0.5
    """
    metric = _parse(name)
    options = list(_examples(kind))
    if metric is None:
        raise ConfigError(
            f"metric {name!r} is unknown{closest(name, options)} (or one of {', '.join(_DEFAULTS[kind])})"
        )
    if kind not in metric.kinds:
        raise ConfigError(
            f"metric {name!r} is for {' and '.join(sorted(metric.kinds))} tasks, and this one is {kind}"
            f"{closest(name, options)}"
        )
    return metric


def find_metric(name: str) -> Metric:
    """Return the metric of a name, whatever the task.

    Raises:
        ConfigError: there is no such metric.

    >>> find_metric("loss").greater_is_better
    False
    """
    metric = _parse(name)
    if metric is None:
        options = {option for kind in _DEFAULTS for option in _examples(kind)}
        raise ConfigError(f"metric {name!r} is unknown{closest(name, sorted(options))}")
    return metric


def _parse(name: str) -> Metric | None:
    if name in PLAIN:
        return PLAIN[name]
    if found := _TOP.fullmatch(name):
        k = int(found[1])
        meaning = f"the share of rows whose class is among the {k} likeliest"
        return Metric(name, meaning, frozenset({"multiclass"}), "rows", k=k)
    if not (found := _RATIO.fullmatch(name)):
        return None
    ratio, beta, average = found[1], float(found[2] or 1), found[3] or ""
    if found[2]:
        # One metric has one name: neither f1.0 nor f01, and f0 would be the precision.
        if beta == 0 or found[2] != f"{beta:g}":
            return None
        ratio = "f"
        meaning = f"the harmonic mean of precision and recall, which counts {beta:g} times as much"
    else:
        meaning = RATIOS[ratio]
    meaning += f"; {AVERAGES[average]}" if average else "; of the positive label"
    kinds: dict[str, frozenset[Kind]] = {"": frozenset({"binary"}), "samples": SEVERAL}
    source: Source = "rows" if average == "samples" else "counts"
    return Metric(name, meaning, kinds.get(average, ALL), source, ratio=ratio, average=average, beta=beta)


def _examples(kind: Kind) -> Iterator[str]:
    """Names that suit a kind, among which the closest to a mistaken one is looked for."""
    for metric in PLAIN.values():
        if kind in metric.kinds:
            yield metric.name
    yield from (f"top{k}_accuracy" for k in (2, 3, 5, 10) if kind == "multiclass")
    for ratio in (*RATIOS, "f1", "f0.5", "f2"):
        if kind == "binary":
            yield ratio
        for average in AVERAGES:
            if average != "samples" or kind == "multilabel":
                yield f"{ratio}_{average}"

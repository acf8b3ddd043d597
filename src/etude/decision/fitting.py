"""Which calibration and which rule a config means, and fitting them on held-out rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etude.config.decision import DecisionConfig, split_metric
from etude.config.decision import Thresholds as Choice
from etude.core.task import Task
from etude.decision.calibration import (
    NONE,
    Calibration,
    choose_calibration,
    cross_fitted,
    fit_calibration,
)
from etude.decision.checks import ENOUGH
from etude.decision.counts import CountMetric, count_metric
from etude.decision.folds import stratified_folds
from etude.decision.offsets import fit_offsets
from etude.decision.rules import LeastCost, Likeliest, Offsets, Rule, Thresholds, TopK
from etude.decision.thresholds import (
    average_thresholds,
    cost_threshold,
    global_threshold,
    label_thresholds,
    shrink,
    tunable,
)
from etude.evaluation.scored import true_labels

Notes = tuple[str, ...]

FOLDS_FROM = 100
"""Held-out rows from which ``auto`` averages the thresholds of folds.

On other rows of goemotions that gave 0.2 to 1.1 points more macro F1 from 150 rows on, and 0.6 to 1.2 less
with 60.
"""


def pick_calibration(
    task: Task,
    config: DecisionConfig,
    logits: NDArray[Any],
    targets: NDArray[Any],
    seed: int,
    *,
    enough: bool,
) -> tuple[Calibration, Notes]:
    """Return the fitted calibration, and notes.

    Args:
        task: the task.
        config: which calibration.
        logits: (N, C) of rows in scope.
        targets: (N, C).
        seed: of the folds that ``auto`` compares calibrations on.
        enough: whether ``auto`` may fit.
    """
    if config.calibration != "auto":
        return fit_calibration(task, config.calibration, logits, targets), ()
    if not enough:
        return NONE, (_too_few(len(logits), "calibrates"),)
    folds = stratified_folds(true_labels(task, targets), config.folds, seed)
    kind = choose_calibration(task, logits, targets, folds)
    return fit_calibration(task, kind, logits, targets), ()


def fit_rule(
    task: Task,
    config: DecisionConfig,
    calibration: Calibration,
    logits: NDArray[Any],
    targets: NDArray[Any],
    seed: int,
    *,
    enough: bool,
) -> tuple[Rule, Notes]:
    """Return the rule from probabilities to labels, and notes.

    Args:
        task: the task.
        config: which rule.
        calibration: fitted on the same rows.
        logits: (N, C) of rows in scope.
        targets: (N, C).
        seed: of the folds of ``cross_validated``.
        enough: whether ``auto`` may fit.
    """
    several, kind = task.kind == "multilabel", config.thresholds
    notes: Notes = ()
    if kind == "auto":
        if not several:
            return Likeliest(), ()
        searched: Choice = "cross_validated" if len(logits) >= FOLDS_FROM else "per_label"
        kind = searched if enough else "fixed"
        notes = () if enough else (_too_few(len(logits), "chooses thresholds"),)
    if kind == "top_k":
        return TopK(config.k), ()
    if kind == "cost" and config.costs is not None:
        if not several:
            return LeastCost(tuple(tuple(row) for row in config.costs)), ()
        return Thresholds((cost_threshold(config.costs),) * task.n_classes, config.at_least_one), ()
    if task.kind == "multiclass" and kind in ("fixed", "global"):
        return Likeliest(), ()
    if kind == "fixed":
        n = task.n_classes if several else 1
        return Thresholds((config.threshold,) * n, config.at_least_one), notes
    folds_seed = seed if kind == "cross_validated" else None
    search = _Search(task, config, calibration, logits, targets, folds_seed)
    return search.offsets() if task.kind == "multiclass" else search.thresholds()


class _Search:
    """Searches thresholds or offsets on held-out rows."""

    def __init__(
        self,
        task: Task,
        config: DecisionConfig,
        calibration: Calibration,
        logits: NDArray[Any],
        targets: NDArray[Any],
        seed: int | None,
    ) -> None:
        self.task, self.config = task, config
        self.metric: CountMetric = count_metric(config.metric, config.costs)
        # One column decides a binary task: that of the positive label.
        self.columns = slice(1, None) if task.kind == "binary" else slice(None)
        self.labels = task.labels[self.columns]
        truth = true_labels(task, targets)
        self.truth = truth[:, self.columns]
        self.folds: NDArray[np.int64] | None = None
        if seed is not None:
            self.folds = stratified_folds(truth, config.folds, seed)
            probabilities = cross_fitted(task, calibration.kind, logits, targets, self.folds)
        else:
            probabilities = calibration.probabilities(task, logits)
        self.probabilities = probabilities[:, self.columns]

    def _parts(self) -> list[tuple[NDArray[Any], NDArray[np.bool_]]]:
        """The probabilities and truth of each fold, where each is searched for itself."""
        if self.folds is None or self.config.combine == "out_of_fold":
            return []
        parts = (self.folds == fold for fold in np.unique(self.folds))
        found = [(self.probabilities[rows], self.truth[rows]) for rows in parts]
        return [(p, truth) for p, truth in found if tunable(truth).any()]

    def thresholds(self) -> tuple[Rule, Notes]:
        """The thresholds of a multilabel or binary task."""
        average = split_metric(self.config.metric)[1]
        common = global_threshold(self.probabilities, self.truth, self.metric, average)
        if common is None:
            note = "no label has both positive and negative held-out rows, so that thresholds stay at 0.5"
            return Thresholds((0.5,) * len(self.labels), self.config.at_least_one), (note,)
        if self.config.thresholds == "global":
            return Thresholds((common,) * len(self.labels), self.config.at_least_one), ()
        if parts := self._parts():
            own, common = self._fold_means(parts)
        else:
            own = label_thresholds(self.probabilities, self.truth, self.metric, common)
        values = shrink(own, common, self.truth, self.config.shrinkage)
        # A label of one side takes the common threshold itself, and not what rounding makes of it.
        values = np.where(tunable(self.truth), values, common)
        return Thresholds(tuple(values.tolist()), self.config.at_least_one), self._untuned(common)

    def _fold_means(
        self, parts: Sequence[tuple[NDArray[Any], NDArray[np.bool_]]]
    ) -> tuple[NDArray[np.float64], float]:
        """The means over folds of each label's threshold (C,) and of the common one."""
        average = split_metric(self.config.metric)[1]
        own, commons = [], []
        for p, truth in parts:
            of_fold = global_threshold(p, truth, self.metric, average)
            if of_fold is not None:  # which it is, since such folds are no parts
                found = label_thresholds(p, truth, self.metric, of_fold)
                own.append(np.where(tunable(truth), found, np.nan))
                commons.append(of_fold)
        mean = float(np.mean(commons))
        unknown = np.isnan(np.stack(own)).all(axis=0)
        return np.where(unknown, mean, average_thresholds(own)), mean

    def _untuned(self, common: float) -> Notes:
        positives = self.truth.sum(axis=0)
        notes = []
        for side, missing in (("positive", positives == 0), ("negative", positives == len(self.truth))):
            if missing.any():
                names = _listed([self.labels[c] for c in np.flatnonzero(missing)])
                notes.append(f"without a {side} held-out row, {names} took the global threshold {common:.3g}")
        return tuple(notes)

    def offsets(self) -> tuple[Rule, Notes]:
        """The offsets of a multiclass task."""
        if parts := self._parts():
            found = [np.where(t.any(axis=0), fit_offsets(p, t, self.metric), np.nan) for p, t in parts]
            values = average_thresholds(found)
        else:
            values = fit_offsets(self.probabilities, self.truth, self.metric)
        rows_of = self.truth.sum(axis=0)
        values = values * rows_of / np.maximum(rows_of + self.config.shrinkage, 1.0)
        absent = _listed([self.labels[c] for c in np.flatnonzero(rows_of == 0)])
        return Offsets(tuple(values.tolist())), (
            (f"without a held-out row, {absent} kept the offset 0",) if absent else ()
        )


def _too_few(n_rows: int, what: str) -> str:
    return f"{n_rows} held-out rows are too few to fit on: 'auto' {what} from {ENOUGH} on"


def _listed(names: Sequence[str]) -> str:
    """A few names, and how many more there are.

    >>> _listed(["a", "b", "c", "d", "e", "f", "g"])
    'a, b, c, d, e and 2 more'
    """
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"

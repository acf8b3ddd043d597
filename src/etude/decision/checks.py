"""What a decision needs of the task and of the held-out rows, said before anything is fitted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etude.config.decision import DecisionConfig
from etude.core.task import Task
from etude.decision.thresholds import cost_threshold
from etude.errors import ConfigError, DataError
from etude.evaluation.scored import true_labels

ENOUGH = 50
"""Held-out rows from which ``auto`` fits something."""

FEWEST = 10
"""Held-out rows without which nothing can be fitted, even where it is asked for by name."""

_SWEPT = ("global", "per_label", "cross_validated")


def check_decision(task: Task, config: DecisionConfig) -> None:
    """Refuse what the task cannot carry; it needs no data and can be asked before training.

    Raises:
        ConfigError: the settings do not fit the task.
    """
    single = task.kind != "multilabel"
    if config.thresholds == "top_k" and single:
        raise ConfigError(
            f"decision.thresholds is 'top_k' and the task is {task.kind}, where each row has exactly one "
            "label; leave it at 'auto', and see the metric top3_accuracy for how often the truth is near"
        )
    if config.thresholds == "top_k" and config.k > task.n_classes:
        raise ConfigError(f"decision.k is {config.k} and there are {task.n_classes} labels; make it smaller")
    if task.kind == "multiclass" and config.threshold != 0.5:
        raise ConfigError(
            f"decision.threshold is {config.threshold:g} and the task is multiclass, where the likeliest "
            "label wins whatever its probability; use thresholds = 'per_label', or [decision.abstain] to "
            "leave rows unanswered"
        )
    if config.costs is not None:
        _check_costs(task, config, config.costs)


def check_rows(task: Task, config: DecisionConfig, n_rows: int) -> None:
    """Refuse what cannot be fitted on so few held-out rows; it can be asked before training.

    Raises:
        DataError: there are fewer rows than the settings need.
    """
    asked = _asked_for(task, config)
    if n_rows < FEWEST and asked:
        raise DataError(
            f"{asked} is fitted on held-out rows and there are {n_rows}, at least {FEWEST} being needed; "
            "make data.validation larger, or leave it to 'auto', which then fits nothing"
        )


def check_held_out(task: Task, config: DecisionConfig, logits: NDArray[Any], targets: NDArray[Any]) -> None:
    """Refuse held-out rows that nothing can be fitted on, and all that the other checks refuse.

    Raises:
        ConfigError: the settings do not fit the task.
        DataError: the rows are too few, of other shapes, or their logits are not finite.
    """
    check_decision(task, config)
    expected = (len(targets), task.n_classes)
    if logits.shape != expected or targets.shape != expected:
        raise DataError(
            f"the held-out logits are {logits.shape} and the targets {targets.shape}; both need one column "
            f"for each of the {task.n_classes} labels"
        )
    way_out = "training has diverged, so lower optimizer.lr or keep an earlier checkpoint"
    check_finite(logits, "held-out rows", way_out)
    check_targets(task, config, targets)


def check_targets(task: Task, config: DecisionConfig, targets: NDArray[Any] | None) -> None:
    """Refuse held-out rows that cannot serve what is asked for; it needs no logits, so ask before training.

    Args:
        task: the task.
        config: what will be fitted.
        targets: (N, C) of the held-out rows; None where there are none.

    Raises:
        ConfigError: the settings do not fit the task.
        DataError: the rows are too few, or none of them is out of scope and some must be.
    """
    check_decision(task, config)
    rows = np.zeros((0, task.n_classes)) if targets is None else targets
    check_rows(task, config, usable_rows(task, rows))
    outside = int((~true_labels(task, rows).any(axis=1)).sum()) if len(rows) else 0
    if config.abstain is not None and config.abstain.by == "out_of_scope" and outside < 2:
        raise DataError(
            f"decision.abstain.by is 'out_of_scope' and {outside} held-out rows belong to no class, at least "
            "2 being needed; name such rows by data.out_of_scope and put some into the validation part, or "
            "choose by = 'risk' or 'coverage'"
        )


def check_finite(logits: NDArray[Any], rows: str, way_out: str) -> None:
    """Refuse logits (N, C) that are infinite or no numbers.

    Raises:
        DataError: some are.
    """
    if np.isfinite(logits).all():
        return
    broken = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    raise DataError(
        f"{len(broken)} of {len(logits)} {rows} have logits that are not finite, the first being row "
        f"{broken[0]}; {way_out}"
    )


def usable_rows(task: Task, targets: NDArray[Any]) -> int:
    """Return how many rows (N, C) calibration and thresholds can be fitted on: those in scope."""
    return len(targets) if task.kind == "multilabel" else int((targets > 0).any(axis=1).sum())


def fits_nothing(task: Task, config: DecisionConfig, *, enough: bool) -> bool:
    """Whether the decision is the same whatever the held-out rows are."""
    automatic = config.calibration == "auto" or (config.thresholds == "auto" and task.kind == "multilabel")
    return not _asked_for(task, config) and not (automatic and enough)


def _asked_for(task: Task, config: DecisionConfig) -> str:
    """The first setting that names something to fit, or an empty string."""
    if config.calibration not in ("auto", "none"):
        return f"decision.calibration = '{config.calibration}'"
    argmax = task.kind == "multiclass" and config.thresholds == "global"
    if config.thresholds in _SWEPT and not argmax:
        return f"decision.thresholds = '{config.thresholds}'"
    return "decision.abstain" if config.abstain is not None else ""


def _check_costs(task: Task, config: DecisionConfig, costs: Sequence[Sequence[float]]) -> None:
    if config.thresholds != "cost" and task.kind == "multiclass":
        raise ConfigError(
            f"decision.metric is {config.metric!r} and the task is multiclass; use thresholds = 'cost', "
            "which needs no search"
        )
    binary = task.kind != "multiclass"
    size = 2 if binary else task.n_classes
    if len(costs) != size or any(len(row) != size for row in costs):
        shape = " x ".join(str(n) for n in (len(costs), len(costs[0]) if costs else 0))
        of = "[[TN, FP], [FN, TP]]" if binary else "a row for each true label and a column for each decision"
        raise ConfigError(f"decision.costs is {shape} and must be {size} x {size}: {of}")
    if binary:
        cost_threshold(costs)

"""Pseudo-labels: which rows a round of self-training learns, and as what.

Each rule is a function of the last model's probabilities. Shapes: U rows without labels, C labels, M rows
that the next round learns; rows are counted in the pool, the N labelled ones first.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from etude.config.self_training import SelfTrainingConfig
from etude.core.task import Task
from etude.data.pseudo_labels import ROW, TARGET, WEIGHT, PseudoLabels
from etude.data.splits import Rows
from etude.runs.folder import whole_file

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Labelled:
    """The N labelled training rows.

    Attributes:
        targets: (N, C) their true targets.
        weights: (N,) their weights.
    """

    targets: Floats
    weights: Floats

    def __len__(self) -> int:
        return len(self.weights)


def confidences(task: Task, probabilities: Floats) -> Floats:
    """Return how sure a model is of each row (U,): of its likeliest label, or of all its yes and no.

    >>> from etude.core.task import Multiclass, Multilabel
    >>> confidences(Multiclass(["a", "b"]), np.array([[0.25, 0.75]], dtype=np.float32)).tolist()
    [0.75]
    >>> confidences(Multilabel(["a", "b"]), np.array([[0.25, 1.0]], dtype=np.float32)).tolist()
    [0.875]
    """
    if task.kind == "multilabel":
        sure: Floats = np.maximum(probabilities, 1.0 - probabilities).mean(axis=1)
        return sure
    likeliest: Floats = probabilities.max(axis=1)
    return likeliest


def over_threshold(confidence: Floats, threshold: float, taken: NDArray[np.bool_]) -> Rows:
    """Return the rows that are surer than the threshold, and not taken yet.

    >>> over_threshold(np.array([0.95, 0.9, 0.99]), 0.9, np.array([False, False, True])).tolist()
    [0]
    """
    return np.flatnonzero((confidence > threshold) & ~taken)


def k_best(confidence: Floats, k: int, taken: NDArray[np.bool_], groups: Rows | None = None) -> Rows:
    """Return the ``k`` surest rows that are not taken, of each group where there are groups; ascending.

    >>> sure = np.array([0.5, 0.9, 0.8, 0.7])
    >>> k_best(sure, 1, np.zeros(4, dtype=bool)).tolist()
    [1]
    >>> k_best(sure, 1, np.array([False, True, False, False]), np.array([0, 0, 1, 0])).tolist()
    [2, 3]
    """
    order = np.argsort(-confidence, kind="stable")
    order = order[~taken[order]]
    if groups is None:
        return np.sort(order[:k])
    return np.sort(np.concatenate([order[groups[order] == group][:k] for group in np.unique(groups)]))


def surest_share(confidence: Floats, drop: float) -> Rows:
    """Return the rows that are left without the ``drop`` share of the least sure; ascending.

    >>> surest_share(np.array([0.5, 0.9, 0.8, 0.7]), 0.25).tolist()
    [1, 2, 3]
    """
    n = len(confidence) - round(drop * len(confidence))
    return np.sort(np.argsort(-confidence, kind="stable")[:n])


def next_labels(
    settings: SelfTrainingConfig,
    task: Task,
    labelled: Labelled,
    probabilities: Floats,
    before: PseudoLabels | None,
    own: Floats | None = None,
) -> PseudoLabels | None:
    """Return what the next round learns, or None where that is what the last one learned.

    Args:
        settings: the method.
        task: the task.
        labelled: the labelled rows, which are learned too, except while pretrain_then_finetune pre-trains.
        probabilities: (U, C) the last model's.
        before: what the last round learned; none if it was the first.
        own: (N, C) the last model's probabilities of the labelled rows, for self_distillation.
    """
    n, confidence = len(labelled), confidences(task, probabilities)
    kept = _kept(settings, before, n, task.n_classes)
    taken = np.zeros(len(confidence), dtype=np.bool_)
    taken[kept.rows - n] = True
    added = _added(settings, task, probabilities, confidence, taken)
    if settings.method in ("threshold", "k_best") and len(added) == 0:
        return None
    told = probabilities[added]
    if settings.labels == "hard" and settings.method != "self_distillation":
        told = task.decide(told).astype(np.float32)
    rows = np.concatenate([kept.rows, n + added])
    targets = np.concatenate([kept.targets, told])
    weights = np.concatenate([kept.weights, np.full(len(added), settings.weight, np.float32)])
    order = np.argsort(rows, kind="stable")
    rows, targets, weights = rows[order], targets[order], weights[order]
    if settings.method != "pretrain_then_finetune":
        truth = labelled.targets
        if settings.method == "self_distillation" and own is not None:
            truth = (1.0 - settings.share) * truth + settings.share * own
        rows = np.concatenate([np.arange(n), rows])
        targets = np.concatenate([truth, targets])
        weights = np.concatenate([labelled.weights, weights])
    found = PseudoLabels(rows, targets.astype(np.float32), weights.astype(np.float32))
    return None if before is not None and _same(before, found) else found


def _kept(settings: SelfTrainingConfig, before: PseudoLabels | None, n: int, c: int) -> PseudoLabels:
    """The rows without labels that keep those of an earlier round."""
    if before is None or settings.method not in ("threshold", "k_best"):
        nothing = np.zeros(0, np.float32)
        return PseudoLabels(np.zeros(0, np.int64), nothing.reshape(0, c), nothing)
    joined = before.rows >= n
    return PseudoLabels(before.rows[joined], before.targets[joined], before.weights[joined])


def _added(
    settings: SelfTrainingConfig,
    task: Task,
    probabilities: Floats,
    confidence: Floats,
    taken: NDArray[np.bool_],
) -> Rows:
    """Which rows without labels join, of those that are not taken."""
    match settings.method:
        case "threshold" | "noisy_student":
            return over_threshold(confidence, settings.least_confidence, taken)
        case "k_best":
            per_class = settings.per_class and task.kind != "multilabel"
            groups = probabilities.argmax(axis=1).astype(np.int64) if per_class else None
            return k_best(confidence, settings.k_best, taken, groups)
        case "self_distillation":
            return np.arange(len(confidence))
    return surest_share(confidence, settings.drop)


def _same(one: PseudoLabels, other: PseudoLabels) -> bool:
    return np.array_equal(one.rows, other.rows) and np.array_equal(one.targets, other.targets)


def write_pseudo_labels(path: Path, task: Task, labels: PseudoLabels) -> None:
    """Write a file of pseudo-labels that :func:`~etude.data.pseudo_labels.read_pseudo_labels` reads."""
    columns = {ROW: labels.rows, WEIGHT: labels.weights}
    columns |= {f"{TARGET}{name}": labels.targets[:, c] for c, name in enumerate(task.labels)}
    with whole_file(path, "make room, then start 'etude self-train' again") as file:
        pq.write_table(pa.table(columns), file)

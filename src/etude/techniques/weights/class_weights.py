"""Class weights: let rare classes count more in the loss.

Idea: a class with few rows has little say in the mean loss. Multiplying its terms by a weight that
falls with its count gives it more, without showing any row twice.

Formula, with n_c of N rows in class c and weights w (C,) that multiply the terms (B, C) along C:

* inverse: 1 / n_c; inverse_sqrt: 1 / √n_c; smoothed: (N + 1) / (n_c + 1)
* max_normalized: √n_min / √n_c, so that the smallest class has weight one
* balanced: N / (C n_c), scikit-learn's; pos_weight: (N - n_c) / n_c
* effective_number: (1 - β) / (1 - β^n_c); weights: numbers of your own; none: absent
* normalize = true scales the weights of any strategy so that Σ_c w_c = C

Paper: King & Zeng 2001, Logistic regression in rare events data (balanced); Cui et al. 2019
(1901.05555), sections 3 and 4 (effective_number).

When it helps: classes of unequal size that matter equally, as with macro-averaged scores.
When not: accuracy is the score; probabilities must be calibrated (weights shift them towards rare
classes); a class is rare because its labels are noise.

Suggested values: inverse_sqrt with normalize = true as the mild choice; balanced as the full one;
effective_number with β = 0.99 to 0.9999. Numbers of your own in the order of the labels, as
weights = [0.1, 0, 1], or by name, where labels that are left out weigh 1: weights = { spam = 5 }.

Cost: 1 pass; no memory.

Clashes: none; weighted_sampling, oversample and undersample correct the same imbalance a second time,
which a warning says.

NOTE[DIFF]: torch's ``weight=`` divides by the batch's total class weight; here the divisor stays the
total example weight N. Without normalize, inverse and inverse_sqrt therefore shrink the whole loss,
smoothed and pos_weight enlarge it, and balanced keeps it.
NOTE[DIFF]: on multilabel tasks a weight multiplies the whole term of its label, positive or negative;
weights of the positives alone are the loss's business, and pos_weight is refused here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import model_validator
from torch import Tensor

from etude.config.fields import SearchRange, setting
from etude.config.label_weights import LabelWeights, weights_by_label
from etude.core.batch import Batch
from etude.core.phases import WEIGH_CLASS
from etude.core.plan import Plan
from etude.core.technique import Context, Facts, Technique, TechniqueConfig
from etude.errors import ConfigError

Floats = NDArray[np.float64]
Strategy = Literal[
    "none", "inverse", "inverse_sqrt", "max_normalized", "smoothed",
    "balanced", "pos_weight", "effective_number", "weights",
]  # fmt: skip

SHOWN = 20
"""Classes in the table that a run prints; of more, the largest and the smallest weights."""


class ClassWeightsConfig(TechniqueConfig):
    """Settings of class weights."""

    name: Literal["class_weights"] = "class_weights"
    strategy: Strategy = setting(
        "balanced", help="how a class's weight follows from its count; weights where weights are given"
    )
    weights: LabelWeights | None = setting(
        None,
        help="numbers of your own: one for each class in the order of the labels, or a table by label, "
        "where those left out weigh 1",
    )
    normalize: bool = setting(False, help="scale the weights so that they sum to the number of classes")
    beta: float = setting(
        0.999, help="β of effective_number", ge=0.0, lt=1.0, search=SearchRange(0.9, 0.9999)
    )

    @model_validator(mode="before")
    @classmethod
    def _weights_are_a_strategy(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("weights") is not None:
            return {"strategy": "weights", **data}
        return data

    @model_validator(mode="after")
    def _weights_stand_alone(self) -> Self:
        if (self.strategy == "weights") != (self.weights is not None):
            raise ValueError(
                f"strategy is '{self.strategy}' and weights is {self.weights}; give weights = [...] "
                "without a strategy, or a strategy without weights"
            )
        return self


def class_weights(counts: NDArray[Any], n_rows: int, strategy: str, *, beta: float = 0.999) -> Floats:
    """Return the weights (C,) of a named strategy; not finite where a class has no rows.

    Args:
        counts: (C,) rows of each class.
        n_rows: N; with several labels for each row less than the sum of the counts.
        strategy: as in the card, ``"none"`` and ``"weights"`` excepted.
        beta: β of ``"effective_number"``.

    Raises:
        KeyError: there is no such strategy.

    >>> class_weights(np.array([100, 25]), 125, "max_normalized")
    array([0.5, 1. ])
    >>> class_weights(np.array([100, 25]), 125, "balanced")
    array([0.625, 2.5  ])
    """
    n = np.asarray(counts, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        by_strategy: dict[str, Floats] = {
            "inverse": 1.0 / n,
            "inverse_sqrt": 1.0 / np.sqrt(n),
            "max_normalized": np.sqrt(n.min() / n),
            "smoothed": (n_rows + 1.0) / (n + 1.0),
            "balanced": n_rows / (len(n) * n),
            "pos_weight": (n_rows - n) / n,
            "effective_number": (1.0 - beta) / (1.0 - beta**n),
        }
    return by_strategy[strategy]


def describe(labels: Sequence[str], counts: NDArray[Any], weights: Floats) -> str:
    """Return a table of the classes, the largest weight first; of many classes only both ends.

    >>> print(describe(["ham", "spam"], np.array([90, 10]), np.array([0.56, 5.0])))
     weight    rows  class
      5.000      10  spam
      0.560      90  ham
    """
    lines = [
        f"{weights[c]:7.3f}  {int(counts[c]):6d}  {labels[c]}" for c in np.argsort(-weights, kind="stable")
    ]
    if len(lines) > SHOWN:
        half = SHOWN // 2
        lines = [*lines[:half], f"... and {len(lines) - SHOWN} classes between", *lines[-half:]]
    return "\n".join([f"{'weight':>7}  {'rows':>6}  class", *lines])


def _resolve(config: ClassWeightsConfig, context: Context) -> Floats:
    labels, strategy = context.task.labels, config.strategy
    if strategy == "pos_weight" and context.task.kind == "multilabel":
        raise ConfigError(
            'class_weights: strategy = "pos_weight" would weigh the negatives of a multilabel task too; '
            'use the loss bce with pos_weight = "balanced"'
        )
    if config.weights is not None:
        weights = np.array(weights_by_label(config.weights, labels, "class_weights.weights"))
    else:
        weights = class_weights(context.class_counts, context.n_rows, strategy, beta=config.beta)
    if not np.isfinite(weights).all():
        raise ConfigError(
            f"class_weights: class '{labels[int(np.isfinite(weights).argmin())]}' has no training row, so "
            f'strategy = "{strategy}" has no weight for it; use strategy = "smoothed" or give weights'
        )
    if not weights.any():
        raise ConfigError("class_weights: every weight is 0, so nothing could be learnt; make one positive")
    return weights * (len(labels) / weights.sum()) if config.normalize else weights


class ClassWeights(Technique[ClassWeightsConfig]):
    """Weighs the classes of a step's loss."""

    Config = ClassWeightsConfig
    facts = Facts(
        family="weights",
        phase=WEIGH_CLASS,
        paper="King & Zeng 2001, Political Analysis 9(2); Cui et al. 2019, arXiv 1901.05555",
        rebalances=True,
        cautions={
            "fact:rebalances": "both answer the imbalance of the classes, so that rare ones may count twice "
            "over and probabilities are off; remove one of them unless that is meant"
        },
        neutral={"strategy": "none", "weights": None},
    )

    def attach(self, plan: Plan) -> None:
        if self.config.strategy == "none":
            return
        found = _resolve(self.config, plan.context)
        weights = torch.from_numpy(found)
        table = describe(plan.context.task.labels, plan.context.class_counts, found)
        plan.notes.append(f"class_weights:\n{table}")

        def weigh(terms: Tensor, batch: Batch) -> Tensor:
            return terms * weights.to(terms)

        plan.add(WEIGH_CLASS, weigh)

"""Class weights: let rare classes count more in the loss.

Idea: a class with few rows has little say in the mean loss. Multiplying its terms by a weight that
falls with its count gives it more, without showing any row twice.

Formula, with n_c of N rows in class c and weights w (C,) that multiply the terms (B, C) along C:

* inverse: 1 / n_c; inverse_sqrt: 1 / √n_c; smoothed: (N + 1) / (n_c + 1)
* max_normalized: √n_min / √n_c, so that the smallest class has weight one
* balanced: N / (C n_c), scikit-learn's; pos_weight: (N - n_c) / n_c
* effective_number: (1 - β) / (1 - β^n_c); values: numbers of your own; none: absent
* normalize = true scales the weights of any strategy so that Σ_c w_c = C

Paper: King & Zeng 2001, Logistic regression in rare events data (balanced); Cui et al. 2019
(1901.05555), sections 3 and 4 (effective_number).

When it helps: classes of unequal size that matter equally, as with macro-averaged scores.
When not: accuracy is the score; probabilities must be calibrated (weights shift them towards rare
classes); a class is rare because its labels are noise.

Suggested values: inverse_sqrt with normalize = true as the mild choice; balanced as the full one;
effective_number with β = 0.99 to 0.9999.

Cost: 1 pass; no memory.

Clashes: weighted_sampling, which corrects the same imbalance a second time.

NOTE[DIFF]: torch's ``weight=`` divides by the batch's total class weight; here the divisor stays the
total example weight N. Without normalize, inverse and inverse_sqrt therefore shrink the whole loss,
smoothed and pos_weight enlarge it, and balanced keeps it.
NOTE[DIFF]: on multilabel tasks a weight multiplies the whole term of its label, positive or negative;
weights of the positives alone are the loss's business, and pos_weight is refused here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor

from etude.config.fields import SearchRange, setting
from etude.core.batch import Batch
from etude.core.phases import WEIGH_CLASS
from etude.core.plan import Plan
from etude.core.technique import Context, Facts, Technique, TechniqueConfig
from etude.errors import ConfigError

Weight = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Floats = NDArray[np.float64]
Strategy = Literal[
    "none", "inverse", "inverse_sqrt", "max_normalized", "smoothed",
    "balanced", "pos_weight", "effective_number", "values",
]  # fmt: skip


class ClassWeightsConfig(TechniqueConfig):
    """Settings of class weights."""

    name: Literal["class_weights"] = "class_weights"
    strategy: Strategy = setting("balanced", help="how a class's weight follows from its count")
    values: list[Weight] | None = setting(
        None, help='with strategy = "values": one weight for each class, in the order of the labels'
    )
    normalize: bool = setting(False, help="scale the weights so that they sum to the number of classes")
    beta: float = setting(
        0.999, help="β of effective_number", ge=0.0, lt=1.0, search=SearchRange(0.9, 0.9999)
    )

    @model_validator(mode="after")
    def _values_belong_to_their_strategy(self) -> Self:
        if (self.strategy == "values") != (self.values is not None):
            raise ValueError(
                f"strategy is '{self.strategy}' and values is {self.values}; "
                'give values = [...] together with strategy = "values"'
            )
        return self


def class_weights(counts: NDArray[Any], n_rows: int, strategy: str, *, beta: float = 0.999) -> Floats:
    """Return the weights (C,) of a named strategy; not finite where a class has no rows.

    Args:
        counts: (C,) rows of each class.
        n_rows: N; with several labels for each row less than the sum of the counts.
        strategy: as in the card, ``"none"`` and ``"values"`` excepted.
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
    """Return a table of the classes, the largest weight first, for a log.

    >>> print(describe(["ham", "spam"], np.array([90, 10]), np.array([0.56, 5.0])))
     weight    rows  class
      5.000      10  spam
      0.560      90  ham
    """
    lines = [f"{weights[c]:7.3f}  {int(counts[c]):6d}  {labels[c]}" for c in np.argsort(-weights)]
    return "\n".join([f"{'weight':>7}  {'rows':>6}  class", *lines])


def _resolve(config: ClassWeightsConfig, context: Context) -> Floats:
    labels, strategy = context.task.labels, config.strategy
    if strategy == "pos_weight" and context.task.kind == "multilabel":
        raise ConfigError(
            'class_weights: strategy = "pos_weight" would weigh the negatives of a multilabel task too; '
            'use the loss bce with pos_weight = "balanced"'
        )
    weights = (
        np.asarray(config.values, dtype=np.float64)
        if config.values is not None
        else class_weights(context.class_counts, context.n_rows, strategy, beta=config.beta)
    )
    if len(weights) != len(labels):
        raise ConfigError(
            f"class_weights: values has {len(weights)} numbers and the task has {len(labels)} classes; "
            "give one for each class, in the order of the labels"
        )
    if not np.isfinite(weights).all():
        raise ConfigError(
            f"class_weights: class '{labels[int(np.isfinite(weights).argmin())]}' has no training row, so "
            f'strategy = "{strategy}" has no weight for it; use strategy = "smoothed" or "values"'
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
        clashes={"weighted_sampling": "both correct the same imbalance, twice over; remove one of them"},
        neutral={"strategy": "none"},
    )

    def attach(self, plan: Plan) -> None:
        if self.config.strategy == "none":
            return
        weights = torch.from_numpy(_resolve(self.config, plan.context))

        def weigh(terms: Tensor, batch: Batch) -> Tensor:
            return terms * weights.to(terms)

        plan.add(WEIGH_CLASS, weigh)

"""Weighted sampling: draw rows so that rare classes are seen more often.

Idea: instead of weighing a rare class's loss, show its rows more often, by drawing an epoch's rows
with replacement and with a probability that follows from their class.

Formula, with targets y (N, C), n_c = Σ_i y_ic and class weights w (C,):

* w_c = 1 / n_c (inverse: all classes equally often), 1 / √n_c (inverse_sqrt), or numbers of your own
* one label for each row: row weight v_i = Σ_c y_ic w_c
* any subset of labels: v_i = the largest ("max") or the mean ("mean") weight of the row's labels; a
  row without a label has the smallest positive class weight, and one whose labels all have
  weight 0 is never drawn
* an epoch is N independent draws with probability v_i / Σ v

Paper: Buda et al. 2018 (1710.05381), on oversampling until classes are equally frequent.

When it helps: rare classes that a batch would often miss; losses that look at whole batches.
When not: data of a few rows for a class (they are learnt by heart); where probabilities must be
calibrated, since the model learns the drawn class frequencies and not the true ones.

Suggested values: inverse for balanced classes, inverse_sqrt as the milder half-way. Numbers of your
own in the order of the labels, as weights = [0.1, 0, 1] (the first class at a tenth, the second never),
or by name, where labels that are left out weigh 1: weights = { spam = 5 }.

Cost: one draw of N integers for each epoch; 1 pass. An epoch no longer shows every row.

Clashes: oversample, which wants the same phase. class_weights and undersample correct the same
imbalance a second time, which a warning says.

NOTE[DIFF]: the paper repeats rows until all classes are as large as the largest, which lengthens the
epoch; drawing keeps N rows in an epoch, with the same class frequencies on average.
"""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from etude.config.fields import setting
from etude.config.label_weights import LabelWeights, weights_by_label
from etude.core.phases import SAMPLE, Rows, View
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.task import Task
from etude.core.technique import Facts, Technique, TechniqueConfig
from etude.errors import ConfigError

Floats = NDArray[np.float64]


class WeightedSamplingConfig(TechniqueConfig):
    """Settings of weighted sampling."""

    name: Literal["weighted_sampling"] = "weighted_sampling"
    strategy: Literal["none", "inverse", "inverse_sqrt", "weights"] = setting(
        "inverse", help="how a class's weight follows from its count; weights where weights are given"
    )
    weights: LabelWeights | None = setting(
        None,
        help="numbers of your own: one for each class in the order of the labels, or a table by label, "
        "where those left out weigh 1; rows whose classes all weigh 0 are never drawn",
    )
    combine: Literal["max", "mean"] = setting(
        "max", help="weight of a row with several labels: the largest or the mean of theirs"
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


def row_weights(targets: Floats, weights: Floats, combine: Literal["max", "mean", "sum"]) -> Floats:
    """Return the weight of each row from the weights of its classes.

    Args:
        targets: (N, C), hard or soft.
        weights: (C,), 0 or more.
        combine: ``"sum"`` of targets times weights, where rows sum to one; ``"max"`` or ``"mean"``
            over the labels that a row has.

    Returns:
        (N,) weights.

    >>> targets = np.array([[1.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    >>> row_weights(targets, np.array([1.0, 4.0]), "max")
    array([4., 1., 1.])
    >>> row_weights(targets, np.array([1.0, 4.0]), "mean")
    array([2.5, 1. , 1. ])
    """
    if combine == "sum":
        return targets @ weights
    total = targets.sum(axis=1)
    if combine == "max":
        labelled = np.where(targets > 0, weights, 0.0).max(axis=1)
    else:
        labelled = targets @ weights / np.maximum(total, 1e-12)
    return np.where(total > 0, labelled, weights[weights > 0].min())


def draw(weights: Floats, n: int, rng: np.random.Generator) -> Rows:
    """Draw ``n`` positions with replacement, each with a probability proportional to its weight.

    Raises:
        ConfigError: every weight is 0.

    >>> draw(np.array([0.0, 1.0, 0.0, 1.0]), 4, np.random.default_rng(0))
    array([3, 1, 1, 1])
    """
    total = weights.sum()
    if not total > 0:
        raise ConfigError(
            f"weighted_sampling: all {len(weights)} rows have weight 0, so none can be drawn; "
            "give a positive weight to a class that occurs"
        )
    return rng.choice(len(weights), size=n, p=weights / total)


class WeightedSampling(Technique[WeightedSamplingConfig]):
    """Draws the rows of an epoch."""

    Config = WeightedSamplingConfig
    facts = Facts(
        family="sampling",
        phase=SAMPLE,
        paper="Buda et al. 2018, arXiv 1710.05381",
        rebalances=True,
        cautions={
            "fact:rebalances": "both answer the imbalance of the classes, so that rare ones may count twice "
            "over and probabilities are off; remove one of them unless that is meant"
        },
        neutral={"strategy": "none", "weights": None},
    )

    def attach(self, plan: Plan) -> None:
        strategy, task = self.config.strategy, plan.context.task
        if strategy == "none":
            return
        given = self._given(task)
        combine = self.config.combine if task.kind == "multilabel" else "sum"
        power = -1.0 if strategy == "inverse" else -0.5

        def sample(view: View, moment: Moment) -> Rows:
            targets = view.targets.double().numpy()
            # A class without rows has nothing to draw; a count of 1 only keeps its weight finite.
            weights = given if given is not None else targets.sum(0).clip(min=1.0) ** power
            rows = row_weights(targets, weights, combine)
            return draw(rows, len(rows), moment.numpy("weighted_sampling"))

        plan.add(SAMPLE, sample)

    def _given(self, task: Task) -> Floats | None:
        if self.config.weights is None:
            return None
        weights = np.array(weights_by_label(self.config.weights, task.labels, "weighted_sampling.weights"))
        if not weights.any():
            raise ConfigError(
                "weighted_sampling.weights are all 0, so no row could be drawn; make one positive"
            )
        return weights

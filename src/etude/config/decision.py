"""The ``[decision]`` section: from logits to labels, fitted after training on held-out rows.

First the probabilities are calibrated, then thresholds turn them into labels, then the model may
abstain. All of it is saved with the model and applied by ``predict``.
"""

from __future__ import annotations

import re
from typing import Literal, Self

from pydantic import field_validator, model_validator

from etude.config.fields import Probability, Strict, setting
from etude.errors import closest

Calibration = Literal["auto", "none", "temperature", "vector", "platt", "isotonic"]
Thresholds = Literal["auto", "fixed", "global", "per_label", "cross_validated", "top_k", "cost"]
Certainty = Literal["auto", "probability", "margin", "entropy", "energy"]
Average = Literal["macro", "micro"]

COUNT_METRICS = (
    "f1", "precision", "recall", "specificity", "accuracy", "balanced_accuracy", "jaccard", "mcc", "cost",
)  # fmt: skip
"""Metrics of one label's true and false positives and negatives; also f0.5, f2 and any other beta."""

TARGETS = {"risk": 0.05, "coverage": 0.9, "out_of_scope": 0.8}
"""What ``abstain.target`` is where it is not given."""


def split_metric(name: str) -> tuple[str, Average]:
    """Split a metric's name into that of one label and how labels are averaged, ``macro`` unless it says.

    >>> split_metric("f0.5_micro"), split_metric("mcc")
    (('f0.5', 'micro'), ('mcc', 'macro'))

    Raises:
        ValueError: no metric of counts has this name.
    """
    base, average = name, "macro"
    for suffix in ("macro", "micro"):
        if name.endswith(f"_{suffix}"):
            base, average = name.removesuffix(f"_{suffix}"), suffix
    if base not in COUNT_METRICS and not re.fullmatch(r"f\d+(\.\d+)?", base):
        raise ValueError(
            f"{name!r} is no metric that a threshold can maximise; choose f1 or another beta such as f0.5, "
            f"{', '.join(COUNT_METRICS[1:])}, with _micro or _macro behind it{closest(name, COUNT_METRICS)}"
        )
    return base, "micro" if average == "micro" else "macro"


class AbstainConfig(Strict):
    """When the model says nothing: of a row too uncertain, or that belongs to none of its classes."""

    by: Literal["risk", "coverage", "out_of_scope"] = setting(
        "risk", help="what is kept: an error rate, a share of answered rows, or a recall of out-of-scope rows"
    )
    target: Probability | None = setting(
        None,
        help="the error rate among answered rows (absent is 0.05), the share of rows answered (0.9), "
        "or the share of out-of-scope rows left unanswered (0.8)",
    )
    score: Certainty = setting(
        "auto",
        help="what certainty is: the highest probability, its lead, little entropy, or the energy of the "
        "logits; auto is the one that serves the target best on the held-out rows",
    )

    @property
    def goal(self) -> float:
        """The target, or what it is where it is not given."""
        return TARGETS[self.by] if self.target is None else self.target


class DecisionConfig(Strict):
    """How logits become probabilities, and probabilities labels."""

    calibration: Calibration = setting(
        "auto", help="auto is what lowers the loss of rows of other folds most, which may be none"
    )
    thresholds: Thresholds = setting(
        "auto",
        help="auto is a threshold of each label for multilabel tasks (cross_validated, or per_label below "
        "100 held-out rows), and else the likeliest label",
    )
    threshold: Probability = setting(0.5, help="the threshold of thresholds = 'fixed'")
    metric: str = setting(
        "f1",
        help="what thresholds maximise: f1, f0.5, f2, precision, recall, specificity, accuracy, "
        "balanced_accuracy, jaccard, mcc or cost; a global threshold takes the mean over labels, or with "
        "_micro behind the name all labels at once",
    )
    shrinkage: float = setting(
        10.0, help="how many positive rows a label needs to weigh as much as the global threshold", ge=0
    )
    folds: int = setting(5, help="folds of the held-out rows, for honest scores and cross_validated", ge=2)
    combine: Literal["average", "out_of_fold"] = setting(
        "average", help="cross_validated: the mean of the folds' thresholds, or one over all folds' scores"
    )
    k: int = setting(1, help="labels of each row for thresholds = 'top_k'", ge=1)
    at_least_one: bool = setting(False, help="a row without a label over its threshold gets the likeliest")
    costs: list[list[float]] | None = setting(
        None,
        help="what each decision (column) costs for each truth (row): a class each, or of a multilabel task "
        "no and yes",
    )
    abstain: AbstainConfig | None = setting(None, help="when to say nothing; absent is never")

    @field_validator("metric")
    @classmethod
    def _a_metric_of_counts(cls, metric: str) -> str:
        split_metric(metric)
        return metric

    @model_validator(mode="after")
    def _costs_where_they_count(self) -> Self:
        wanted = self.thresholds == "cost" or split_metric(self.metric)[0] == "cost"
        if wanted != (self.costs is not None):
            raise ValueError(
                'costs = [[...], ...] belongs to thresholds = "cost" or metric = "cost"; give both or none'
            )
        return self

    @model_validator(mode="after")
    def _settings_where_they_count(self) -> Self:
        owners = {"threshold": "fixed", "k": "top_k", "combine": "cross_validated"}
        for name, owner in owners.items():
            value = getattr(self, name)
            if value != type(self).model_fields[name].default and self.thresholds != owner:
                raise ValueError(f'{name} = {value!r} counts only with thresholds = "{owner}"; set that too')
        return self

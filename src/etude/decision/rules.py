"""How probabilities become labels: five rules, each a few numbers that are saved with the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from etude.core.task import Task
from etude.decision.offsets import log_probabilities
from etude.errors import RunError, closest

Decisions = NDArray[np.bool_]


class Rule(Protocol):
    """From probabilities (N, C) to labels (N, C)."""

    def decide(self, probabilities: NDArray[Any], logits: NDArray[Any]) -> Decisions:
        """Return which labels hold; the logits (N, C) part what has equal probabilities."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Return the rule's name, under ``"rule"``, and its numbers."""
        ...

    def describe(self, task: Task) -> str:
        """Return what it does in one sentence."""
        ...


@dataclass(frozen=True, slots=True)
class Likeliest:
    """The label with the highest probability; of several the one with the highest logit, then the first."""

    def decide(self, probabilities: NDArray[Any], logits: NDArray[Any]) -> Decisions:
        top = probabilities == probabilities.max(axis=1, keepdims=True)
        return _one(np.where(top, logits, -np.inf).argmax(axis=1), probabilities.shape[1])

    def to_json(self) -> dict[str, Any]:
        return {"rule": "argmax"}

    def describe(self, task: Task) -> str:
        return "Each row gets its likeliest label."


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Each label whose probability is at least its threshold.

    Attributes:
        values: (C,), or of a binary task the threshold of the positive label.
        at_least_one: a row without a label gets the likeliest one.
    """

    values: tuple[float, ...]
    at_least_one: bool = False

    def decide(self, probabilities: NDArray[Any], logits: NDArray[Any]) -> Decisions:
        # In float64, where the middle between any two probabilities lies between them.
        thresholds = np.asarray(self.values, dtype=np.float64)
        if len(self.values) == 1 and probabilities.shape[1] == 2:
            positive = probabilities[:, 1].astype(np.float64) >= thresholds[0]
            return np.stack([~positive, positive], axis=1)
        decisions = probabilities.astype(np.float64) >= thresholds
        if self.at_least_one:
            empty = ~decisions.any(axis=1)
            decisions[empty] = Likeliest().decide(probabilities[empty], logits[empty])
        return decisions

    def to_json(self) -> dict[str, Any]:
        return {"rule": "thresholds", "values": list(self.values), "at_least_one": self.at_least_one}

    def describe(self, task: Task) -> str:
        low, high = min(self.values), max(self.values)
        if task.kind == "binary":
            return f"A row is {task.labels[1]!r} where its probability is at least {low:.3g}."
        if low == high:
            sentence = f"A label holds where its probability is at least {low:.3g}."
        else:
            lowest, highest = (task.labels[self.values.index(value)] for value in (low, high))
            sentence = (
                "A label holds where its probability is at least its own threshold, "
                f"from {low:.3g} ({lowest}) to {high:.3g} ({highest})."
            )
        return sentence + (" A row without any gets its likeliest label." if self.at_least_one else "")


@dataclass(frozen=True, slots=True)
class Offsets:
    """The label with the highest log-probability plus its offset.

    Attributes:
        values: (C,).
    """

    values: tuple[float, ...]

    def decide(self, probabilities: NDArray[Any], logits: NDArray[Any]) -> Decisions:
        sums = log_probabilities(probabilities) + np.asarray(self.values)
        return _one(sums.argmax(axis=1), probabilities.shape[1])

    def to_json(self) -> dict[str, Any]:
        return {"rule": "offsets", "values": list(self.values)}

    def describe(self, task: Task) -> str:
        factors = np.exp(self.values)
        low, high = int(factors.argmin()), int(factors.argmax())
        return (
            "Each row gets the label with the highest probability times the label's factor, from "
            f"{factors[low]:.3g} ({task.labels[low]}) to {factors[high]:.3g} ({task.labels[high]})."
        )


@dataclass(frozen=True, slots=True)
class TopK:
    """The k labels with the highest probabilities, and of equal ones the first.

    Attributes:
        k: labels of each row.
    """

    k: int

    def decide(self, probabilities: NDArray[Any], logits: NDArray[Any]) -> Decisions:
        top = np.argsort(-probabilities, axis=1, kind="stable")[:, : self.k]
        decisions = np.zeros(probabilities.shape, dtype=np.bool_)
        np.put_along_axis(decisions, top, True, axis=1)
        return decisions

    def to_json(self) -> dict[str, Any]:
        return {"rule": "top_k", "k": self.k}

    def describe(self, task: Task) -> str:
        return f"Each row gets its {self.k} likeliest labels." if self.k > 1 else Likeliest().describe(task)


@dataclass(frozen=True, slots=True)
class LeastCost:
    """The label whose expected cost is lowest: Σ_t p_t costs[t][label] (Elkan 2001, equation 1).

    Attributes:
        costs: (C, C), what each decision (column) costs for each true label (row).
    """

    costs: tuple[tuple[float, ...], ...] = field()

    def decide(self, probabilities: NDArray[Any], logits: NDArray[Any]) -> Decisions:
        expected = probabilities.astype(np.float64) @ np.asarray(self.costs)
        return _one(expected.argmin(axis=1), probabilities.shape[1])

    def to_json(self) -> dict[str, Any]:
        return {"rule": "cost", "costs": [list(row) for row in self.costs]}

    def describe(self, task: Task) -> str:
        return "Each row gets the label whose expected cost is lowest."


def rule_from_json(content: Mapping[str, Any]) -> Rule:
    """Return the rule that ``to_json`` described.

    Raises:
        RunError: there is no rule of this name.
    """
    makers: dict[str, Any] = {
        "argmax": lambda: Likeliest(),
        "thresholds": lambda: Thresholds(_numbers(content["values"]), bool(content["at_least_one"])),
        "offsets": lambda: Offsets(_numbers(content["values"])),
        "top_k": lambda: TopK(int(content["k"])),
        "cost": lambda: LeastCost(tuple(_numbers(row) for row in content["costs"])),
    }
    name = str(content.get("rule"))
    if name not in makers:
        raise RunError(
            f"the saved decision has the rule {name!r}, which this version does not know"
            f"{closest(name, makers)}; use the version of etude that saved the model"
        )
    rule: Rule = makers[name]()
    return rule


def _numbers(values: Sequence[Any]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _one(columns: NDArray[np.intp], n_classes: int) -> Decisions:
    """Decisions (N, C) with one label in each row."""
    decisions = np.zeros((len(columns), n_classes), dtype=np.bool_)
    decisions[np.arange(len(columns)), columns] = True
    return decisions

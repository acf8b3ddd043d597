"""Weights of classes as a user writes them: a list in the order of the labels, or a table by label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import AfterValidator

from etude.errors import ConfigError, closest


def _none_below_zero(weights: list[float] | dict[str, float]) -> list[float] | dict[str, float]:
    """Refuse negative weights by their place, which a bound of the item's type would not name."""
    named = weights.items() if isinstance(weights, dict) else enumerate(weights, start=1)
    for place, weight in named:
        if weight < 0:
            raise ValueError(f"the weight of {place!r} is {weight:g} and must be 0 or more")
    return weights


LabelWeights = Annotated[list[float] | dict[str, float], AfterValidator(_none_below_zero)]


def weights_by_label(
    given: Sequence[float] | Mapping[str, float], labels: Sequence[str], setting: str
) -> list[float]:
    """Return one weight for each label, in the order of the labels.

    Args:
        given: one for each label, or by label, where those left out weigh 1.
        labels: the C labels.
        setting: where they were written, for the error.

    Raises:
        ConfigError: their number is not that of the labels, or a label is unknown.

    >>> weights_by_label({"spam": 5.0}, ["ham", "spam"], "class_weights.weights")
    [1.0, 5.0]
    """
    if isinstance(given, Mapping):
        for label in given:
            if label not in labels:
                raise ConfigError(
                    f"{setting} names the label {label!r}, which does not occur in the training part"
                    f"{closest(label, labels)}"
                )
        return [given.get(label, 1.0) for label in labels]
    if len(given) != len(labels):
        raise ConfigError(
            f"{setting} has {len(given)} numbers and the task has {len(labels)} classes; give one for each "
            "class in the order of the labels, or a table by label"
        )
    return list(given)

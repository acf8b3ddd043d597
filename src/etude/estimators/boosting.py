"""What the libraries of boosted trees have in common here: a problem goes in, a fitted ensemble comes out.

Columns of categories stand before the columns of numbers. Shapes: n rows of the fit, D columns, P classes
that occur.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np

from etude.config.estimators import TreesBackboneConfig
from etude.errors import ConfigError
from etude.estimators.base import Codes, Curves, Floats


@dataclass(frozen=True)
class Rows:
    """n rows to fit, or to watch the fit.

    Attributes:
        design: (n, D), categories first as numbers from 0, NaN where a value is missing.
        classes: (n,) from 0 to P - 1.
        weights: (n,), or None where all are 1.
    """

    design: Floats
    classes: Codes
    weights: Floats | None


@dataclass(frozen=True)
class Problem:
    """One of P classes for each row; where P is 2 there is one output, the log-odds of the second.

    Attributes:
        train: what is fitted.
        validation: what stops the fit.
        n_classes: P.
        n_categories: how many of the D columns, the first ones, are categories.
        seed: of the library's draws.
    """

    train: Rows
    validation: Rows | None
    n_classes: int
    n_categories: int
    seed: int

    @property
    def is_category(self) -> list[bool]:
        """(D,) of each column."""
        return [column < self.n_categories for column in range(self.train.design.shape[1])]


class Ensemble(ABC):
    """Fitted trees of one library."""

    most_categories: ClassVar[int] = 2**31
    """Categories of one column that the library takes; rarer ones are put together."""

    @classmethod
    @abstractmethod
    def fit(cls, problem: Problem, config: TreesBackboneConfig) -> tuple[Self, Curves]:
        """Fit a problem.

        Raises:
            ConfigError: the library is not installed, or refuses a setting.
        """

    @abstractmethod
    def raw(self, design: Floats) -> Floats:
        """Return the outputs (N, P), or (N,) where P is 2."""

    @abstractmethod
    def gains(self, n_columns: int) -> Floats:
        """Return what each column contributes: (D,), in the library's own measure."""

    @abstractmethod
    def save(self, folder: Path, name: str) -> None:
        """Write one file of this name, the library's own ending added."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, name: str) -> Self:
        """Read what :meth:`save` wrote."""


def best_round(validation: list[float], n_rounds: int, config: TreesBackboneConfig) -> int:
    """Return how many rounds to keep: those up to the least loss, or all where nothing stops early.

    Args:
        validation: the losses after 1, 2, ... rounds.
        n_rounds: how many there are.
        config: says whether a fit stops early.

    >>> best_round([0.6, 0.5, 0.52], 3, TreesBackboneConfig())
    2
    """
    if not validation or not config.early_stopping:
        return n_rounds
    return int(np.argmin(validation)) + 1


def curves_of(losses: Mapping[str, list[float]], config: TreesBackboneConfig) -> Curves:
    """Return the curves of a library that tells its losses after each round, from the first on."""
    train, validation = list(losses["train"]), list(losses.get("validation", []))
    at = [float(n + 1) for n in range(len(train))]
    return Curves("rounds", at, train, validation, best_round(validation, len(train), config))


@contextmanager
def refused_settings(library: str, config: TreesBackboneConfig, *errors: type[Exception]) -> Iterator[None]:
    """Turn what a library says of the settings that it was given into an error of the config.

    Raises:
        ConfigError: the library raised one of the errors.
    """
    try:
        yield
    except errors as error:
        if not config.settings:
            raise
        said = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise ConfigError(
            f"backbone.settings has {', '.join(config.settings)}, and {library} says: {said}; see its manual"
        ) from None

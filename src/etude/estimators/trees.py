"""Gradient-boosted trees of any of the libraries as one estimator.

Exactly one label: one ensemble over the classes that occur. Any subset of labels: one for each label.
Shapes: N rows, K numbers, J categories, D = J + K columns, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etude.config.estimators import TreesBackboneConfig
from etude.core.rng import key
from etude.core.task import Kind
from etude.errors import ConfigError
from etude.estimators.base import Codes, Curves, Estimator, Features, Floats, Sample
from etude.estimators.boosting import Ensemble, Problem, Rows
from etude.estimators.categories import CategoryNumbers
from etude.estimators.rows import rows_of_classes, spread

LIBRARIES: Mapping[str, tuple[str, str]] = {
    "sklearn": ("hist_trees", "HistTrees"),
    "lightgbm": ("lightgbm_trees", "LightGbmTrees"),
    "xgboost": ("xgboost_trees", "XgBoostTrees"),
    "catboost": ("catboost_trees", "CatBoostTrees"),
}
"""Module and class by ``backbone.library``; a library is imported when it is used."""


@dataclass(frozen=True)
class _Fitted:
    """What answers one question: which of the classes, or whether one label holds.

    Attributes:
        ensemble: None where only one class occurs, so that nothing is asked.
        present: (P,) the classes that occur.
    """

    ensemble: Ensemble | None
    present: Codes

    def logits(self, design: Floats, n_classes: int) -> Floats:
        """Return the logits (N, C) of rows (N, D)."""
        raw = np.zeros(len(design)) if self.ensemble is None else self.ensemble.raw(design)
        return spread(raw, self.present, n_classes)


class TreesEstimator(Estimator):
    """Boosted trees over numbers and categories.

    Attributes:
        config: the settings.
    """

    kind = "trees"

    def __init__(self, config: TreesBackboneConfig, task: Kind, n_classes: int) -> None:
        super().__init__(task, n_classes)
        self.config = config
        self._library = _ensemble_class(config.library)
        self._fitted: list[_Fitted] = []
        self._categories = CategoryNumbers(())
        self._n_columns = 0

    def fit(
        self,
        train: Sample,
        validation: Sample | None = None,
        *,
        class_weights: Floats | None = None,
        seed: int = 0,
    ) -> None:
        if train.features.terms is not None:
            raise ConfigError('kind = "trees" reads no texts; use kind = "linear", or columns of a table')
        weighty = train.weights > 0
        most = self._library.most_categories
        self._categories = CategoryNumbers.fit(train.features.categories[weighty], most)
        if self._categories.n_merged:
            self.notes.append(
                f"{self._categories.n_merged} rare categories count as one in their columns, since the trees "
                f"of {self.config.library} take {most} in a column"
            )
        design = self._design(train.features)
        self._n_columns = design.shape[1]
        if self._n_columns == 0:
            raise ConfigError("trees need a column of numbers or of categories, and there is none; name one")
        held_out = None if validation is None else (self._design(validation.features), validation.weights)
        self._fitted, curves = [], []
        for number, targets in enumerate(self.questions(train.targets)):
            own = self.question_weights(class_weights, number)
            watched = None
            if validation is not None and held_out is not None:
                watched = (*held_out, self.questions(validation.targets)[number])
            fitted, found = self._ask(
                (design, train.weights, targets), watched, own, key(seed, "trees", number)
            )
            self._fitted.append(fitted)
            curves += [] if found is None else [found]
        self.curves = summed(curves)

    def _ask(
        self, train: _Part, validation: _Part | None, class_weights: Floats, seed: int
    ) -> tuple[_Fitted, Curves | None]:
        """Fit one ensemble."""
        if not class_weights.any():  # a label that weighs nothing is not learned
            return _Fitted(None, np.array([0])), None
        design, weights, targets = train
        rows, classes, found = rows_of_classes(targets, weights, class_weights)
        present = np.unique(classes)
        if len(present) == 1:
            return _Fitted(None, present), None
        problem = Problem(
            Rows(design[rows], np.searchsorted(present, classes), _unless_ones(found)),
            None if validation is None else _watched(*validation, class_weights, present),
            len(present),
            len(self._categories.numbers),
            seed % 2**31,
        )
        ensemble, curves = self._library.fit(problem, self.config)
        return _Fitted(ensemble, present), curves

    def _design(self, features: Features) -> Floats:
        """Categories and numbers side by side: (N, D)."""
        return np.concatenate([self._categories.apply(features.categories), features.numbers], axis=1)

    def logits(self, features: Features) -> NDArray[np.float32]:
        design = self._design(features)
        n_answers = 2 if self.task == "multilabel" else self.n_classes
        return self.answered([one.logits(design, n_answers) for one in self._fitted])

    def importances(self) -> tuple[Floats, Floats]:
        total = np.zeros(self._n_columns)
        for one in self._fitted:
            if one.ensemble is not None:
                gains = one.ensemble.gains(self._n_columns)
                total += gains / (gains.sum() or 1.0)
        total /= total.sum() or 1.0
        n_categories = len(self._categories.numbers)
        return total[n_categories:], total[:n_categories]

    def save(self, folder: Path) -> dict[str, Any]:
        for number, one in enumerate(self._fitted):
            if one.ensemble is not None:
                one.ensemble.save(folder, f"trees_{number}")
        return {
            "config": self.config.model_dump(mode="json", exclude_none=True),
            "present": [one.present.tolist() for one in self._fitted],
            "constant": [one.ensemble is None for one in self._fitted],
            "categories": [list(column) for column in self._categories.numbers],
            "n_columns": self._n_columns,
        }

    @classmethod
    def load(cls, folder: Path, told: Mapping[str, Any]) -> TreesEstimator:
        config = TreesBackboneConfig.model_validate(told["config"])
        found = cls(config, told["task"], told["n_classes"])
        found._categories = CategoryNumbers.from_json(told["categories"])
        found._n_columns = int(told["n_columns"])
        for number, (present, constant) in enumerate(zip(told["present"], told["constant"], strict=True)):
            read = None if constant else found._library.load(folder, f"trees_{number}")
            found._fitted.append(_Fitted(read, np.asarray(present, dtype=np.int64)))
        return found


_Part = tuple[Floats, Floats, Floats]
"""Design (N, D), weights (N,) and targets (N, P)."""


def _ensemble_class(library: str) -> type[Ensemble]:
    module, name = LIBRARIES[library]
    found: type[Ensemble] = getattr(import_module(f"etude.estimators.{module}"), name)
    return found


def _watched(
    design: Floats, weights: Floats, targets: Floats, class_weights: Floats, present: Codes
) -> Rows | None:
    """The rows of the validation part whose classes training saw; None where there are none."""
    seen, own = targets[:, present], class_weights[present]
    if not (seen * weights[:, None] * own).any():
        return None
    rows, classes, found = rows_of_classes(seen, weights, own)
    return Rows(design[rows], classes, _unless_ones(found))


def _unless_ones(weights: Floats) -> Floats | None:
    return None if (weights == 1.0).all() else weights


def summed(curves: Sequence[Curves]) -> Curves:
    """Add the curves of several labels; one that ended early keeps its last loss.

    >>> one = Curves("rounds", [1.0], [0.5], [0.6], 1)
    >>> two = Curves("rounds", [1.0, 2.0], [0.4, 0.2], [0.5, 0.4], 2)
    >>> summed([one, two]).train
    [0.9, 0.7]
    """
    if not curves:
        return Curves("rounds")
    longest = max(curves, key=lambda one: len(one.at))

    def total(name: str) -> list[float]:
        lists = [getattr(one, name) for one in curves]
        if not all(lists):
            return []
        padded = [[*found, *found[-1:] * (len(longest.at) - len(found))] for found in lists]
        return [round(sum(column), 12) for column in zip(*padded, strict=True)]

    return Curves("rounds", longest.at, total("train"), total("validation"), max(one.kept for one in curves))

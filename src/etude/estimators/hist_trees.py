"""scikit-learn's histogram gradient boosting, kept as plain arrays once it is fitted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from safetensors.numpy import load_file, save_file

from etude.config.estimators import TreesBackboneConfig
from etude.errors import ConfigError, closest
from etude.estimators.base import Curves, Floats
from etude.estimators.boosting import Ensemble, Problem, best_round, refused_settings
from etude.estimators.forest import Forest

MANAGED = ("loss", "scoring", "random_state", "categorical_features", "validation_fraction", "warm_start")
"""Settings that follow from the data and the run."""


class HistTrees(Ensemble):
    """Trees that scikit-learn grew."""

    most_categories: ClassVar[int] = 255

    def __init__(self, forest: Forest) -> None:
        self.forest = forest

    @classmethod
    def fit(cls, problem: Problem, config: TreesBackboneConfig) -> tuple[Self, Curves]:
        """Fit, and keep the rounds up to the least loss of the validation part.

        scikit-learn itself keeps also the rounds that it waited for a better one.
        """
        from sklearn.ensemble import HistGradientBoostingClassifier

        train, held_out = problem.train, problem.validation
        model = HistGradientBoostingClassifier(**_parameters(problem, config))
        watched: dict[str, Any] = {}
        if held_out is not None:
            watched = {"X_val": held_out.design, "y_val": held_out.classes}
            watched["sample_weight_val"] = held_out.weights
        with refused_settings("scikit-learn", config, ValueError, TypeError):
            model.fit(train.design, train.classes, sample_weight=train.weights, **watched)
        losses = [float(-score) for score in model.train_score_]
        validation = [float(-score) for score in model.validation_score_] if held_out is not None else []
        kept = best_round(validation[1:], model.n_iter_, config)
        curves = Curves("rounds", [float(n) for n in range(len(losses))], losses, validation, kept)
        return cls(Forest.of_sklearn(model, kept)), curves

    def raw(self, design: Floats) -> Floats:
        return self.forest.raw(design)

    def gains(self, n_columns: int) -> Floats:
        return self.forest.gains(n_columns)

    def save(self, folder: Path, name: str) -> None:
        save_file(self.forest.arrays(), folder / f"{name}.safetensors")

    @classmethod
    def load(cls, folder: Path, name: str) -> Self:
        return cls(Forest.from_arrays(load_file(folder / f"{name}.safetensors")))


def _parameters(problem: Problem, config: TreesBackboneConfig) -> Mapping[str, Any]:
    from sklearn.ensemble import HistGradientBoostingClassifier

    known = [name for name in HistGradientBoostingClassifier().get_params() if name not in MANAGED]
    for name in config.settings:
        if name not in known:
            raise ConfigError(
                f"backbone.settings.{name} is no setting of scikit-learn's HistGradientBoostingClassifier "
                f"that can be chosen here{closest(name, known)}"
            )
    stops = problem.validation is not None and config.early_stopping
    return {
        "learning_rate": config.learning_rate,
        "max_iter": config.n_rounds,
        "max_leaf_nodes": config.max_leaves,
        "min_samples_leaf": config.min_rows_in_leaf,
        "l2_regularization": config.l2 or 0.0,
        "max_features": config.columns_share,
        "categorical_features": np.array(problem.is_category) if problem.n_categories else None,
        "random_state": problem.seed,
        # Losses are recorded only where something may stop, hence a patience that never ends.
        "early_stopping": True,
        "n_iter_no_change": config.early_stopping if stops else config.n_rounds + 1,
        "validation_fraction": None,
        "scoring": "loss",
        "tol": 0.0,
        **config.settings,
    }

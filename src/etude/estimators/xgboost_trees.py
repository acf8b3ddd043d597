"""XGBoost, saved in its JSON format."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from etude.config.estimators import TreesBackboneConfig
from etude.errors import ConfigError
from etude.estimators.base import Curves, Floats
from etude.estimators.boosting import Ensemble, Problem, Rows, curves_of, refused_settings
from etude.extras import require


class XgBoostTrees(Ensemble):
    """Trees that XGBoost grew."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self._model = _library().Booster(model_file=bytearray(content))
        self.n_categories = (self._model.feature_types or []).count("c")

    @classmethod
    def fit(cls, problem: Problem, config: TreesBackboneConfig) -> tuple[Self, Curves]:
        library = _library()

        def matrix(rows: Rows) -> Any:
            return _matrix(rows.design, problem.n_categories, rows.classes, rows.weights)

        train = matrix(problem.train)
        watched, patience = [(train, "train")], None
        if problem.validation is not None:
            watched.append((matrix(problem.validation), "validation"))
            patience = config.early_stopping or None
        losses: dict[str, dict[str, list[float]]] = {}
        with (
            warnings.catch_warnings(record=True) as said,
            refused_settings("XGBoost", config, library.core.XGBoostError),
        ):
            warnings.simplefilter("always")
            model = library.train(
                _parameters(problem, config), train, config.n_rounds, evals=watched, evals_result=losses,
                early_stopping_rounds=patience, verbose_eval=False,
            )  # fmt: skip
        for name in config.settings:
            if any("are not used" in str(one.message) and f'"{name}"' in str(one.message) for one in said):
                raise ConfigError(f"backbone.settings.{name} is no setting of XGBoost; see its manual")
        curves = curves_of({name: next(iter(found.values())) for name, found in losses.items()}, config)
        content = bytes(model[: int(curves.kept)].save_raw("json"))
        return cls(content), curves

    def raw(self, design: Floats) -> Floats:
        found = self._model.predict(_matrix(design, self.n_categories), output_margin=True)
        return np.asarray(found, dtype=np.float64)

    def gains(self, n_columns: int) -> Floats:
        by_column = self._model.get_score(importance_type="total_gain")
        return np.array([by_column.get(f"f{column}", 0.0) for column in range(n_columns)])

    def save(self, folder: Path, name: str) -> None:
        (folder / f"{name}.json").write_bytes(self.content)

    @classmethod
    def load(cls, folder: Path, name: str) -> Self:
        return cls((folder / f"{name}.json").read_bytes())


def _library() -> Any:
    return require("xgboost", extra="trees", technique='backbone.library = "xgboost"')


def _matrix(design: Floats, n_categories: int, classes: Any = None, weights: Any = None) -> Any:
    types = ["c" if column < n_categories else "float" for column in range(design.shape[1])]
    return _library().DMatrix(
        design, label=classes, weight=weights, feature_types=types, enable_categorical=True,
        feature_names=[f"f{column}" for column in range(design.shape[1])], nthread=torch.get_num_threads(),
    )  # fmt: skip


def _parameters(problem: Problem, config: TreesBackboneConfig) -> dict[str, Any]:
    several = problem.n_classes > 2
    target = {"objective": "multi:softprob", "num_class": problem.n_classes}
    return {
        **(target if several else {"objective": "binary:logistic"}),
        "eval_metric": "mlogloss" if several else "logloss",
        "tree_method": "hist",
        "grow_policy": "lossguide",
        "max_depth": 0,
        "max_leaves": config.max_leaves,
        "learning_rate": config.learning_rate,
        # XGBoost sums p (1 - p), which is a quarter at most, where others count rows.
        "min_child_weight": config.min_rows_in_leaf / 4,
        "colsample_bytree": config.columns_share,
        "seed": problem.seed,
        "nthread": torch.get_num_threads(),
        "verbosity": 1,
        **({} if config.l2 is None else {"lambda": config.l2}),
        **config.settings,
    }

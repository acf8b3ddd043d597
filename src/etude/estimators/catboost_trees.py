"""CatBoost, saved in its own format (cbm)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from etude.config.estimators import TreesBackboneConfig
from etude.estimators.base import Curves, Floats
from etude.estimators.boosting import Ensemble, Problem, Rows, curves_of, refused_settings
from etude.extras import require

DEEPEST = 16


class CatBoostTrees(Ensemble):
    """Trees that CatBoost grew; they are symmetric unless ``settings.grow_policy`` says otherwise."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.n_categories = len(model.get_cat_feature_indices())

    @classmethod
    def fit(cls, problem: Problem, config: TreesBackboneConfig) -> tuple[Self, Curves]:
        library = _library()

        def pool(rows: Rows) -> Any:
            data = _features(rows.design, problem.n_categories)
            return library.Pool(data, label=rows.classes, weight=rows.weights)

        held_out = problem.validation
        with refused_settings("CatBoost", config, library.CatBoostError, TypeError):
            model = library.CatBoost(_parameters(problem, config))
            model.fit(
                pool(problem.train),
                eval_set=None if held_out is None else pool(held_out),
                early_stopping_rounds=None if held_out is None else config.early_stopping or None,
                use_best_model=False,
            )
        losses = {
            "train" if name == "learn" else "validation": next(iter(found.values()))
            for name, found in model.get_evals_result().items()
        }
        curves = curves_of(losses, config)
        model.shrink(int(curves.kept))
        return cls(model), curves

    def raw(self, design: Floats) -> Floats:
        data = _library().Pool(_features(design, self.n_categories))
        found = self._model.predict(
            data, prediction_type="RawFormulaVal", thread_count=torch.get_num_threads()
        )
        return np.asarray(found, dtype=np.float64)

    def gains(self, n_columns: int) -> Floats:
        found = np.asarray(self._model.get_feature_importance(), dtype=np.float64)
        n_numbers = n_columns - self.n_categories  # CatBoost was given the numbers first
        return np.concatenate([found[n_numbers:], found[:n_numbers]])

    def save(self, folder: Path, name: str) -> None:
        self._model.save_model(str(folder / f"{name}.cbm"), format="cbm")

    @classmethod
    def load(cls, folder: Path, name: str) -> Self:
        model = _library().CatBoost()
        model.load_model(str(folder / f"{name}.cbm"), format="cbm")
        return cls(model)


def _library() -> Any:
    return require("catboost", extra="trees", technique='backbone.library = "catboost"')


def _features(design: Floats, n_categories: int) -> Any:
    """Numbers (N, K) and the names (N, J) of categories, as CatBoost takes both without pandas."""
    codes = np.nan_to_num(design[:, :n_categories], nan=-1.0).astype(np.int64)
    names = np.array([b"%d" % code for code in codes.reshape(-1).tolist()], dtype=object)
    numbers = np.ascontiguousarray(design[:, n_categories:], dtype=np.float32)
    return _library().FeaturesData(
        num_feature_data=numbers if numbers.shape[1] else None,
        cat_feature_data=names.reshape(codes.shape) if n_categories else None,
    )


def _parameters(problem: Problem, config: TreesBackboneConfig) -> dict[str, Any]:
    depth = min(max(round(math.log2(config.max_leaves)), 1), DEEPEST)
    symmetric = config.settings.get("grow_policy", "SymmetricTree") == "SymmetricTree"
    leaves = {} if symmetric else {"min_data_in_leaf": config.min_rows_in_leaf}
    if config.settings.get("grow_policy") == "Lossguide":
        leaves["max_leaves"] = config.max_leaves
    return {
        "loss_function": "MultiClass" if problem.n_classes > 2 else "Logloss",
        "iterations": config.n_rounds,
        "learning_rate": config.learning_rate,
        "depth": depth,
        "rsm": config.columns_share,
        "random_seed": problem.seed,
        "thread_count": torch.get_num_threads(),
        "allow_writing_files": False,
        "logging_level": "Silent",
        **leaves,
        **({} if config.l2 is None else {"l2_leaf_reg": config.l2}),
        **config.settings,
    }

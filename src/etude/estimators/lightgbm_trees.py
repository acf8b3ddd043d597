"""LightGBM, saved in its text format."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from etude.config.estimators import TreesBackboneConfig
from etude.errors import ConfigError
from etude.estimators.base import Curves, Floats
from etude.estimators.boosting import Ensemble, Problem, Rows, curves_of, refused_settings
from etude.extras import require


class _Listener:
    """Hears what LightGBM says, which would print it otherwise."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def info(self, message: str) -> None:
        """Keep it."""
        self.said.append(message)

    warning = info


class LightGbmTrees(Ensemble):
    """Trees that LightGBM grew."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._model = _library().Booster(model_str=text)

    @classmethod
    def fit(cls, problem: Problem, config: TreesBackboneConfig) -> tuple[Self, Curves]:
        library, listener = _library(), _Listener()
        library.register_logger(listener)
        categories = list(range(problem.n_categories))

        def dataset(rows: Rows, reference: Any = None) -> Any:
            return library.Dataset(
                rows.design, rows.classes, weight=rows.weights, reference=reference,
                categorical_feature=categories,
            )  # fmt: skip

        train = dataset(problem.train)
        sets, names = [train], ["train"]
        losses: dict[str, dict[str, list[float]]] = {}
        callbacks = [library.record_evaluation(losses)]
        if problem.validation is not None:
            sets, names = [train, dataset(problem.validation, train)], ["train", "validation"]
            if config.early_stopping:
                callbacks.append(library.early_stopping(config.early_stopping, verbose=False))
        with refused_settings("LightGBM", config, library.basic.LightGBMError):
            model = library.train(
                _parameters(problem, config), train, config.n_rounds, valid_sets=sets, valid_names=names,
                callbacks=callbacks,
            )  # fmt: skip
        unknown = [said.split(":")[-1].strip() for said in listener.said if "Unknown parameter" in said]
        if unknown:
            raise ConfigError(f"backbone.settings.{unknown[0]} is no setting of LightGBM; see its manual")
        curves = curves_of({name: next(iter(found.values())) for name, found in losses.items()}, config)
        return cls(model.model_to_string(num_iteration=int(curves.kept))), curves

    def raw(self, design: Floats) -> Floats:
        found: Floats = self._model.predict(design, raw_score=True, num_threads=torch.get_num_threads())
        return found

    def gains(self, n_columns: int) -> Floats:
        return np.asarray(self._model.feature_importance("gain"), dtype=np.float64)

    def save(self, folder: Path, name: str) -> None:
        (folder / f"{name}.txt").write_text(self.text, encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, name: str) -> Self:
        return cls((folder / f"{name}.txt").read_text(encoding="utf-8"))


def _library() -> Any:
    return require("lightgbm", extra="trees", technique='backbone.library = "lightgbm"')


def _parameters(problem: Problem, config: TreesBackboneConfig) -> dict[str, Any]:
    several = problem.n_classes > 2
    return {
        "objective": "multiclass" if several else "binary",
        "num_class": problem.n_classes if several else 1,
        "metric": "multi_logloss" if several else "binary_logloss",
        "learning_rate": config.learning_rate,
        "num_leaves": config.max_leaves,
        "min_data_in_leaf": config.min_rows_in_leaf,
        "feature_fraction": config.columns_share,
        "seed": problem.seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": torch.get_num_threads(),
        "verbosity": 0,
        **({} if config.l2 is None else {"lambda_l2": config.l2}),
        **config.settings,
    }

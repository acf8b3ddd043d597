"""Étude trains classifiers: every technique a tested, composable part of one TOML file.

Importing this package is cheap: torch and transformers are imported with the first name that needs
them.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from etude._autoclasses import register_when_transformers_loads

if TYPE_CHECKING:
    from etude.api import (
        Classifier,
        Config,
        Evaluation,
        Prediction,
        Pretrained,
        Result,
        auto_epochs,
        baseline,
        check_data,
        compare,
        ensemble,
        evaluate,
        explain,
        find_batch_size,
        find_lr,
        health,
        interpret,
        load,
        predict,
        pretrain,
        report,
        resume,
        retrain,
        retrain_best,
        self_train,
        soup,
        study,
        train,
        tune,
        validate,
    )
    from etude.scikit import ImageClassifier, TableClassifier, TextClassifier

__version__ = "0.1.0"
__all__ = [
    "Classifier",
    "Config",
    "Evaluation",
    "ImageClassifier",
    "Prediction",
    "Pretrained",
    "Result",
    "TableClassifier",
    "TextClassifier",
    "auto_epochs",
    "baseline",
    "check_data",
    "compare",
    "ensemble",
    "evaluate",
    "explain",
    "find_batch_size",
    "find_lr",
    "health",
    "interpret",
    "load",
    "predict",
    "pretrain",
    "report",
    "resume",
    "retrain",
    "retrain_best",
    "self_train",
    "soup",
    "study",
    "train",
    "tune",
    "validate",
]

ESTIMATORS = ("ImageClassifier", "TableClassifier", "TextClassifier")
"""Classes with scikit-learn's contract."""

register_when_transformers_loads()


class _Package(ModuleType):
    """This package, in which jobs have the names of rooms: ``etude.report`` stays the job."""

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; what importing a room would set in the place of a job is left out."""
        if not (isinstance(value, ModuleType) and name in __all__):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name in ESTIMATORS:
        return getattr(import_module("etude.scikit"), name)
    if name in __all__:
        return getattr(import_module("etude.api"), name)
    raise AttributeError(f"module 'etude' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

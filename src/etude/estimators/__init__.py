"""Estimators: models that a library fits as a whole, and that are no networks.

Boosted trees of four libraries, and logistic regression. They are saved as safetensors, JSON and the
libraries' own formats, never as pickles.
"""

from __future__ import annotations

from etude.config.estimators import LinearBackboneConfig, TreesBackboneConfig
from etude.core.task import Kind
from etude.estimators.base import Curves, Estimator, Features, Sample
from etude.estimators.linear import LinearEstimator
from etude.estimators.saving import load_estimator
from etude.estimators.trees import TreesEstimator

__all__ = ["Curves", "Estimator", "Features", "Sample", "load_estimator", "make_estimator"]


def make_estimator(
    config: TreesBackboneConfig | LinearBackboneConfig, task: Kind, n_classes: int
) -> Estimator:
    """Return an estimator that is not fitted yet.

    Args:
        config: the ``[backbone]``.
        task: the kind of the task.
        n_classes: C.

    Raises:
        ConfigError: the library is not installed.
    """
    if isinstance(config, TreesBackboneConfig):
        return TreesEstimator(config, task, n_classes)
    return LinearEstimator(config, task, n_classes)

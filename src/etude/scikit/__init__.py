"""Estimators with scikit-learn's contract: ``TextClassifier``, ``TableClassifier``, ``ImageClassifier``.

They train what a config file trains, and go wherever a scikit-learn classifier goes: into a ``Pipeline``,
``GridSearchCV``, ``cross_val_score`` or ``CalibratedClassifierCV``.
"""

from etude.scikit.image import ImageClassifier
from etude.scikit.table import TableClassifier
from etude.scikit.text import TextClassifier

__all__ = ["ImageClassifier", "TableClassifier", "TextClassifier"]

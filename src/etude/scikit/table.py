"""``TableClassifier``: scikit-learn's contract over tables."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import check_array, validate_data

from etude.scikit.base import LABEL, WEIGHT, EtudeClassifier


class TableClassifier(EtudeClassifier):
    """A network over the columns of a table that is trained by ``fit``.

    X is a DataFrame with columns of numbers, categories, booleans and dates, or an array (N, K). Missing
    values are fine. Arguments and attributes are those of :class:`~etude.scikit.base.EtudeClassifier`;
    ``backbone={"model": "ft_transformer"}`` chooses the network.

    Attributes:
        n_features_in_: K.
        feature_names_in_: (K,) the columns' names, where X is a DataFrame.
    """

    _kind = "table"

    def _columns(self, X: Any, *, fitting: bool) -> dict[str, list[Any]]:  # noqa: N803
        if hasattr(X, "iloc"):
            return self._columns_of_frame(X, fitting=fitting)
        try:
            array = validate_data(self, X, reset=fitting, dtype="numeric", ensure_all_finite="allow-nan")
        except ValueError as error:
            if "could not convert string" not in str(error):
                raise
            array = validate_data(self, X, reset=fitting, dtype=object, ensure_all_finite=False)
        columns = (array[:, k].tolist() for k in range(array.shape[1]))
        return {
            f"x{k}": [None if cell != cell else cell for cell in cells] for k, cells in enumerate(columns)
        }

    def _columns_of_frame(self, X: Any, *, fitting: bool) -> dict[str, list[Any]]:  # noqa: N803
        from etude.data.frames import table_of_frame
        from etude.errors import DataError

        validate_data(self, X, reset=fitting, skip_check_array=True)
        if len(X) == 0:
            check_array(np.empty((0, max(X.shape[1], 1))))
        try:
            table = table_of_frame(X)
        except DataError as error:
            raise ValueError(str(error)) from None
        taken = {LABEL, WEIGHT} & set(table.columns)
        if taken:  # they are ours while training; the order of columns tells the others apart
            return {f"column {name}" if name in taken else name: list(c) for name, c in table.values.items()}
        return {name: list(cells) for name, cells in table.values.items()}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = tags.input_tags.string = True
        return tags

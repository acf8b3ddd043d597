"""What the estimators share: from X and y to a run in memory, and from a model to predictions.

A fitted estimator holds the folder of its saved model; pickling or deep-copying it carries the folder's
files as bytes, so that what comes back is opened from safetensors and JSON, as any saved model.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, column_or_1d

from etude.config.load import merge, parse_config
from etude.config.run import Config
from etude.data.table import Table
from etude.errors import EtudeError
from etude.runs.in_memory import fit_tables
from etude.runs.model import Classifier

LABEL, WEIGHT = "label", "sample_weight"
"""Columns that the tables of an estimator get beside those of X."""

LEAST = 1e-30
"""Probabilities below count as this much where a logarithm is taken."""

FEWEST_STEPS = 300
"""Optimizer steps of a training whose ``epochs`` are ``"auto"``, at least."""


class ScratchFolder:
    """A folder that goes when nobody holds it any more."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="etude-"))
        self._gone = weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


class EtudeClassifier(ClassifierMixin, BaseEstimator):
    """Base of the estimators; see each of them for what X is.

    Args:
        backbone: settings of ``[backbone]``, as ``{"model": "ft_transformer"}``.
        epochs: passes over the rows; ``"auto"`` for as many as a small data set needs.
        batch_size: rows of a step; ``"auto"`` by the number of rows.
        lr: learning rate; absent for the default of the backbone.
        techniques: tables of ``[techniques]``, as ``{"ema": {"decay": 0.99}}``.
        settings: any other settings by their path, as ``{"loss.name": "focal"}``.
        validation: share or number of rows on which the decision (calibration, thresholds) is fitted; false
            for none, so that all rows are trained on.
        class_weight: ``"balanced"``, or a mapping from class to weight.
        precision: ``"auto"``, ``"fp32"`` or ``"bf16"``.
        random_state: seed, generator or none.

    Attributes:
        classes_: (C,) the classes, sorted; for multilabel targets the numbers of the columns.
        model_: the trained model.
    """

    _kind = ""

    def __init__(
        self,
        *,
        backbone: Mapping[str, Any] | None = None,
        epochs: int | str = "auto",
        batch_size: int | str = "auto",
        lr: float | None = None,
        techniques: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
        validation: float | int | bool = False,
        class_weight: str | Mapping[Any, float] | None = None,
        precision: str = "auto",
        random_state: Any = 0,
    ) -> None:
        self.backbone = backbone
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.techniques = techniques
        self.settings = settings
        self.validation = validation
        self.class_weight = class_weight
        self.precision = precision
        self.random_state = random_state

    @abstractmethod
    def _columns(self, X: Any, *, fitting: bool) -> dict[str, list[Any]]:  # noqa: N803
        """Check X and return it as columns of cells."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803 - scikit-learn's names
        """Train.

        Args:
            X: N inputs.
            y: (N,) classes, or (N, C) zeros and ones for several labels at once.
            sample_weight: (N,) weights of the rows.

        Raises:
            ValueError: X, y or a setting cannot be used; says which and the way out.
        """
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        columns = self._columns(X, fitting=True)
        n_rows = len(next(iter(columns.values())))
        labels = self._encode(y, n_rows)
        table = {**columns, **labels}
        if sample_weight is not None:
            weights = _check_sample_weight(sample_weight, np.empty((n_rows, 1)), ensure_non_negative=True)
            table[WEIGHT] = weights.tolist()
        config = self._config(list(labels), n_rows, weighted=sample_weight is not None)
        self._folder = ScratchFolder()
        source = Table("X", table, range(n_rows))
        try:
            self.model_ = fit_tables(config, {"train": source}, self._folder.path / "model")
        except EtudeError as error:
            raise ValueError(str(error)) from None
        self._order = self._places()
        return self

    def _encode(self, y: Any, n_rows: int) -> dict[str, list[Any]]:
        """Learn the classes, and return the columns of labels."""
        y = np.asarray(y)
        self._multilabel = type_of_target(y, input_name="y") == "multilabel-indicator"
        if self._multilabel:
            self.classes_ = np.arange(y.shape[1])
            found = {f"{LABEL}_{c}": y[:, c].astype(int).tolist() for c in range(y.shape[1])}
        else:
            y = column_or_1d(y, warn=True)
            check_classification_targets(y)
            if len(y) != n_rows:
                raise ValueError(self._lengths_differ(n_rows, len(y)))
            self.classes_ = np.unique(y)
            if len(self.classes_) < 2:
                only = self.classes_.tolist()[0]
                raise ValueError(f"y has 1 class, {only!r}, and at least two classes are needed")
            names = np.array(self._names(), dtype=object)
            found = {LABEL: names[np.searchsorted(self.classes_, y)].tolist()}
        if len(y) != n_rows:
            raise ValueError(self._lengths_differ(n_rows, len(y)))
        return found

    @staticmethod
    def _lengths_differ(n_x: int, n_y: int) -> str:
        return (
            f"X has {n_x} rows and y has {n_y}, which are inconsistent numbers of samples; give one y a row"
        )

    def _names(self) -> list[str]:
        """What the model calls the classes: their own names, or their numbers where two read alike."""
        if self._multilabel:
            return [f"{LABEL}_{c}" for c in self.classes_]
        names = [str(name) for name in self.classes_.tolist()]
        clear = len(set(names)) == len(names) and all(name.strip() == name and name for name in names)
        return names if clear else [f"class {i}" for i in range(len(names))]

    def _places(self) -> NDArray[np.int64]:
        """(C,) where each of ``classes_`` stands among the model's labels."""
        labels = list(self.model_.task.labels)
        return np.array([labels.index(name) for name in self._names()])

    def _config(self, labels: list[str], n_rows: int, *, weighted: bool) -> Config:
        size = min(256, max(8, n_rows // 8)) if self.batch_size == "auto" else self.batch_size
        epochs = self.epochs
        if epochs == "auto":
            steps = -(-n_rows // int(size))
            epochs = max(self._epochs, -(-FEWEST_STEPS // steps))
        seed = self.random_state
        if not isinstance(seed, int | np.integer):
            seed = check_random_state(seed).randint(2**31 - 1)
        table: dict[str, Any] = {
            "task": "multilabel"
            if self._multilabel
            else ("binary" if len(self.classes_) == 2 else "multiclass"),
            "seed": int(seed),
            "data": {
                "train": "X",
                "labels": labels if self._multilabel else labels[0],
                "validation": self.validation,
                **({"weight": WEIGHT} if weighted else {}),
                **self._data_settings(),
            },
            "backbone": {"kind": self._kind, **(self.backbone or {})},
            "train": {"epochs": epochs, "batch_size": size, "precision": self.precision},
            "techniques": {**QUIET, **self._class_weights(), **(self.techniques or {})},
        }
        if self.lr is not None:
            table["optimizer"] = {"lr": self.lr}
        try:
            return parse_config(merge(table, _nested(self.settings or {})))
        except EtudeError as error:
            raise ValueError(str(error)) from None

    _epochs = 20

    def _task(self) -> str:
        if self._multilabel:
            return "multilabel"
        return "binary" if len(self.classes_) == 2 else "multiclass"

    def _data_settings(self) -> dict[str, Any]:
        return {}

    def _class_weights(self) -> dict[str, Any]:
        if self.class_weight is None:
            return {}
        if isinstance(self.class_weight, str):
            return {"class_weights": {"strategy": self.class_weight}}
        names = dict(zip(self.classes_.tolist(), self._names(), strict=True))
        unknown = [key for key in self.class_weight if key not in names]
        if unknown:
            raise ValueError(
                f"class_weight names {unknown[0]!r}, which is no class of y; its classes are "
                f"{', '.join(map(str, self.classes_[:10]))}"
            )
        weights = {names[key]: float(weight) for key, weight in self.class_weight.items()}
        return {"class_weights": {"weights": weights}}

    def predict_proba(self, X: Any) -> NDArray[np.float32]:  # noqa: N803
        """Return the probabilities (N, C) of the inputs, in the order of ``classes_``."""
        probabilities: NDArray[np.float32] = self._decided(X)[0][:, self._order]
        return probabilities

    def decision_function(self, X: Any) -> NDArray[np.float32]:  # noqa: N803
        """Return scores: (N,) of the second of two classes against the first, else (N, C).

        They are the network's logits, or those of calibrated probabilities where a calibration was fitted
        and is no part of the network.
        """
        logits: NDArray[Any] = self._logits(X)
        if self.model_.decision.calibration.kind != "none":
            p = np.clip(self.model_.decision.probabilities(logits), LEAST, 1.0)
            logits = np.log(p) - (np.log(np.clip(1.0 - p, LEAST, 1.0)) if self._multilabel else 0.0)
        scores: NDArray[np.float32] = logits[:, self._order].astype(np.float32)
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 and not self._multilabel else scores

    def predict(self, X: Any) -> NDArray[Any]:  # noqa: N803
        """Return the class of each input (N,), or zeros and ones (N, C) for several labels at once."""
        decisions = self._decided(X)[1][:, self._order]
        if self._multilabel:
            return decisions.astype(np.int64)
        found: NDArray[Any] = self.classes_[decisions.argmax(axis=1)]
        return found

    def _decided(self, X: Any) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:  # noqa: N803
        logits = self._logits(X)
        return self.model_.decision.apply(logits)

    def _logits(self, X: Any) -> NDArray[np.float32]:  # noqa: N803
        check_is_fitted(self)
        columns = self._columns(X, fitting=False)
        n_rows = len(next(iter(columns.values())))
        try:
            return self.model_.logits_of_table(Table("X", columns, range(n_rows)))
        except EtudeError as error:
            raise ValueError(str(error)) from None

    def save(self, folder: str | Path) -> None:
        """Copy the model into a folder, from which ``etude.load`` and ``etude predict`` open it."""
        check_is_fitted(self)
        shutil.copytree(self.model_.folder, Path(folder))

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        tags.non_deterministic = False
        return tags

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        state.pop("_folder", None)
        model = state.pop("model_", None)
        if model is not None:
            files = [path for path in Path(model.folder).rglob("*") if path.is_file()]
            state["_files"] = {str(path.relative_to(model.folder)): path.read_bytes() for path in files}
        return state

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        files = state.get("_files")
        super().__setstate__({key: value for key, value in state.items() if key != "_files"})
        if files is None:
            return
        self._folder = ScratchFolder()
        folder = self._folder.path / "model"
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        self.model_ = Classifier(folder, precision=self.precision)


QUIET: Mapping[str, Any] = {
    "training_dynamics": {"enabled": False},
    "loss_history": {"enabled": False},
}
"""What a run looks at for its report, which an estimator does not write."""


def _nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by their path as tables in tables.

    >>> _nested({"loss.name": "focal", "loss.gamma": 1.0, "train": {"epochs": 2}})
    {'loss': {'name': 'focal', 'gamma': 1.0}, 'train': {'epochs': 2}}
    """
    found: dict[str, Any] = {}
    for path, value in settings.items():
        table = value
        for key in reversed(path.split(".")):
            table = {key: table}
        found = merge(found, table)
    return found

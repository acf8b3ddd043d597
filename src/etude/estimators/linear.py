"""Logistic regression by scikit-learn as an estimator, kept as plain arrays once it is fitted.

Exactly one label: one softmax, or each class against all others. Any subset of labels: one regression for
each label. Shapes: N rows, D columns, C classes, P of them that occur.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from etude.config.estimators import LinearBackboneConfig
from etude.core.rng import key
from etude.core.task import Kind
from etude.errors import ConfigError
from etude.estimators.base import Codes, Curves, Estimator, Features, Floats, Sample
from etude.estimators.linear_design import LinearDesign
from etude.estimators.rows import rows_of_classes, spread

STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)
"""What ``strength = "auto"`` chooses from."""

SAGA_TOLERANCE = 1e-4
"""The solver of l1 measures its tolerance in another way, and takes very long for less."""


@dataclass(frozen=True)
class _Fitted:
    """What answers one question.

    Attributes:
        weight: (D, P), or (D, 1) where P is 2; no columns where one class occurs alone.
        bias: (P,) likewise.
        present: (P,) the classes that occur.
        apart: whether each class was fitted against all others.
    """

    weight: Floats
    bias: Floats
    present: Codes
    apart: bool

    def logits(self, design: Any, n_classes: int) -> Floats:
        """Return the logits (N, C) of rows (N, D)."""
        if not self.weight.shape[1]:
            return spread(np.zeros((design.shape[0], 1)), self.present, n_classes)
        raw = np.asarray(design @ self.weight + self.bias)
        if self.apart:  # so that softmax divides the sigmoids by their sum
            raw = -np.logaddexp(0.0, -raw)
        return spread(raw, self.present, n_classes)


class LinearEstimator(Estimator):
    """Logistic regression over numbers, categories and terms.

    Attributes:
        config: the settings.
        strength: scikit-learn's C that was used.
    """

    kind = "linear"

    def __init__(self, config: LinearBackboneConfig, task: Kind, n_classes: int) -> None:
        super().__init__(task, n_classes)
        self.config = config
        self.strength = 0.0
        self._design: LinearDesign | None = None
        self._fitted: list[_Fitted] = []
        self._deviation: Floats = np.zeros(0)

    def fit(
        self,
        train: Sample,
        validation: Sample | None = None,
        *,
        class_weights: Floats | None = None,
        seed: int = 0,
    ) -> None:
        if self.config.strength == "auto" and validation is None:
            raise ConfigError(
                'backbone.strength = "auto" needs a validation part to choose by, and there is none; give a '
                "number, or set data.validation"
            )
        self._design = LinearDesign.fit(train.features, train.weights)
        if not self._design.n_columns:
            raise ConfigError("there is no column to learn from; name numbers, categories or texts")
        design = self._design.apply(train.features)
        held_out = None if validation is None else self._design.apply(validation.features)
        self._deviation = _deviations(design, train.weights)
        strengths = STRENGTHS if self.config.strength == "auto" else (self.config.strength,)
        fits, losses, held_losses, steps = [], [], [], 0
        for strength in strengths:
            fitted, steps = self._fit(design, train, class_weights, strength, seed)
            fits.append(fitted)
            losses.append(self._loss(fitted, design, train, class_weights))
            if validation is not None:
                held_losses.append(self._loss(fitted, held_out, validation, class_weights))
        best = int(np.argmin(held_losses)) if len(fits) > 1 else 0
        self._fitted, self.strength = fits[best], float(strengths[best])
        if len(fits) > 1:
            self.curves = Curves("C", list(map(float, strengths)), losses, held_losses, self.strength)
            self.notes.append(f"strength {self.strength:g} has the least loss on the validation part")
            return
        start = self._shares(train, class_weights)
        losses.insert(0, self._loss(start, design, train, class_weights))
        if validation is not None:
            held_losses.insert(0, self._loss(start, held_out, validation, class_weights))
        self.curves = Curves("iterations", [0.0, float(steps)], losses, held_losses, float(steps))

    def _fit(
        self, design: Any, train: Sample, class_weights: Floats | None, strength: float, seed: int
    ) -> tuple[list[_Fitted], int]:
        """Fit every question with one C; returns the most iterations that one of them took."""
        found, steps = [], 0
        for number, targets in enumerate(self.questions(train.targets)):
            own = self.question_weights(class_weights, number)
            if not own.any():  # a label that weighs nothing is not learned
                found.append(_nothing(design.shape[1], np.array([0])))
                continue
            rows, classes, weights = rows_of_classes(targets, train.weights, own)
            present = np.unique(classes)
            if len(present) == 1:
                found.append(_nothing(design.shape[1], present))
                continue
            whole = len(rows) == design.shape[0] and (rows == np.arange(len(rows))).all()
            own_design = design if whole else design[rows]
            model = _Regression(self.config, strength, key(seed, "linear", number) % 2**31)
            places = np.searchsorted(present, classes)
            apart = self.config.classes == "one_vs_rest" and len(present) > 2
            if apart:
                each = [model.fit(own_design, places == p, weights) for p in range(len(present))]
                weight, bias = (np.concatenate(parts, axis=-1) for parts in zip(*each, strict=True))
            else:
                weight, bias = model.fit(own_design, places, weights)
            found.append(_Fitted(weight, bias, present, apart))
            steps = max(steps, model.n_iterations)
            if model.gave_up:
                self._tell(
                    f"logistic regression was not done after {self.config.max_iter} iterations; raise "
                    "backbone.max_iter, or make the penalty stronger"
                )
        return found, steps

    def _tell(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)

    def _shares(self, train: Sample, class_weights: Floats | None) -> list[_Fitted]:
        """The model that knows the classes' shares alone, from where a fit starts."""
        found = []
        for number, targets in enumerate(self.questions(train.targets)):
            own = self.question_weights(class_weights, number)
            total = (targets * train.weights[:, None] * own).sum(axis=0)
            present = np.flatnonzero(total) if total.any() else np.array([0])
            nothing = _nothing(self._columns, present)
            if len(present) > 1:
                bias = np.log(total[present] / total.sum())
                bias = bias[1:] - bias[:1] if len(bias) == 2 else bias
                nothing = _Fitted(np.zeros((self._columns, len(bias))), bias, present, apart=False)
            found.append(nothing)
        return found

    @property
    def _columns(self) -> int:
        return 0 if self._design is None else self._design.n_columns

    def _loss(
        self, fitted: list[_Fitted], design: Any, sample: Sample, class_weights: Floats | None
    ) -> float:
        """The mean loss of a fit, without the penalty, over rows and the weights that it was given."""
        total = 0.0
        for number, targets in enumerate(self.questions(sample.targets)):
            shares = targets * sample.weights[:, None] * self.question_weights(class_weights, number)
            logits = fitted[number].logits(design, targets.shape[1])
            shifted = logits - logits.max(axis=1, keepdims=True)
            log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
            total -= float((shares * log_p).sum() / (shares.sum() or 1.0))
        return total

    def logits(self, features: Features) -> NDArray[np.float32]:
        if self._design is None:
            raise RuntimeError("the estimator was not fitted yet")
        design = self._design.apply(features)
        n_answers = 2 if self.task == "multilabel" else self.n_classes
        return self.answered([one.logits(design, n_answers) for one in self._fitted])

    def importances(self) -> tuple[Floats, Floats]:
        if self._design is None:
            raise RuntimeError("the estimator was not fitted yet")
        strengths = [np.abs(one.weight).sum(axis=1) for one in self._fitted]
        columns = np.sum(strengths, axis=0) * self._deviation
        numbers, categories = self._design.by_feature(columns / (columns.sum() or 1.0))
        return numbers, categories

    def save(self, folder: Path) -> dict[str, Any]:
        if self._design is None:
            raise RuntimeError("the estimator was not fitted yet")
        arrays = {f"design.{name}": array for name, array in self._design.arrays().items()}
        arrays["deviation"] = self._deviation
        for number, one in enumerate(self._fitted):
            for name in ("weight", "bias", "present"):
                arrays[f"{number}.{name}"] = np.ascontiguousarray(getattr(one, name))
        save_file(arrays, folder / "linear.safetensors")
        return {
            "config": self.config.model_dump(mode="json", exclude_none=True),
            "strength": self.strength,
            "apart": [one.apart for one in self._fitted],
        }

    @classmethod
    def load(cls, folder: Path, told: Mapping[str, Any]) -> LinearEstimator:
        found = cls(LinearBackboneConfig.model_validate(told["config"]), told["task"], told["n_classes"])
        arrays = load_file(folder / "linear.safetensors")
        own = {name.removeprefix("design."): array for name, array in arrays.items() if "design." in name}
        found._design, found._deviation = LinearDesign.from_arrays(own), arrays["deviation"]
        found.strength = float(told["strength"])
        for number, apart in enumerate(told["apart"]):
            weight, bias, present = (arrays[f"{number}.{name}"] for name in ("weight", "bias", "present"))
            found._fitted.append(_Fitted(weight, bias, present, bool(apart)))
        return found


class _Regression:
    """scikit-learn's regression with these settings.

    Attributes:
        n_iterations: of the last fit.
        gave_up: whether a fit ended before it was done.
    """

    def __init__(self, config: LinearBackboneConfig, strength: float, seed: int) -> None:
        self._config, self._strength, self._seed = config, strength, seed
        self.n_iterations, self.gave_up = 0, False

    def fit(self, design: Any, classes: NDArray[Any], weights: Floats) -> tuple[Floats, Floats]:
        """Return weights (D, P) and biases (P,), one column where there are two classes."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        smooth = self._config.penalty in ("l2", "none")
        model = LogisticRegression(
            **self._penalty(),
            solver="lbfgs" if smooth else "saga",
            tol=self._config.tolerance if smooth else max(self._config.tolerance, SAGA_TOLERANCE),
            max_iter=self._config.max_iter,
            random_state=self._seed,
        )
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            model.fit(design, classes, sample_weight=weights)
        self.gave_up |= any(issubclass(one.category, ConvergenceWarning) for one in said)
        self.n_iterations = max(self.n_iterations, int(np.max(model.n_iter_)))
        return np.ascontiguousarray(model.coef_.T), np.asarray(model.intercept_, dtype=np.float64)

    def _penalty(self) -> dict[str, Any]:
        """The penalty, as this version of scikit-learn wants it told."""
        from sklearn.linear_model import LogisticRegression

        penalty = self._config.penalty
        if LogisticRegression().get_params()["penalty"] == "deprecated":  # since 1.8 it is C and l1_ratio
            ratio = {"l2": 0.0, "none": 0.0, "l1": 1.0, "elasticnet": self._config.l1_ratio}[penalty]
            return {"C": np.inf if penalty == "none" else self._strength, "l1_ratio": ratio}
        if penalty == "none":
            return {"penalty": None}
        mixed = {"l1_ratio": self._config.l1_ratio} if penalty == "elasticnet" else {}
        return {"penalty": penalty, "C": self._strength, **mixed}


def _nothing(n_columns: int, present: Codes) -> _Fitted:
    """The answer where one class occurs alone."""
    return _Fitted(np.zeros((n_columns, 0)), np.zeros(0), present.astype(np.int64), apart=False)


def _deviations(design: Any, weights: Floats) -> Floats:
    """The standard deviations (D,) of columns (N, D), weighted."""
    share = weights / (weights.sum() or 1.0)
    mean, square = design.T @ share, design.multiply(design).T @ share
    return np.sqrt(np.maximum(square - mean**2, 0.0))

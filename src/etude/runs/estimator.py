"""Runs of estimators: fitted by one call, with few techniques, and with rounds in the place of steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn, cast

import numpy as np
import torch

from etude.config.estimators import EstimatorConfig, TreesBackboneConfig
from etude.config.run import Config, TrainConfig
from etude.core.backbone import Backbone
from etude.core.batch import Batch
from etude.core.engine import Engine, Score, Settings
from etude.core.examples import Examples
from etude.core.observe import Reporter
from etude.core.phases import WEIGH_CLASS
from etude.core.plan import Plan
from etude.core.predict import predict
from etude.errors import ConflictError, Interrupted
from etude.estimators.backbone import EstimatorBackbone
from etude.estimators.base import Curves, Floats
from etude.estimators.examples import EstimatorExamples
from etude.techniques import technique_class

ACTING = frozenset({"class_weights"})
"""The techniques that act on an estimator."""

OF_STEPS = ("epochs", "max_steps", "batch_size", "micro_batch_size", "final")
"""Settings of ``[train]`` that mean nothing here."""


def is_estimator(config: Config) -> bool:
    """Whether a run's model is fitted by one call."""
    return isinstance(config.backbone, EstimatorConfig)


def techniques_of_estimator(config: Config) -> dict[str, dict[str, Any]]:
    """Return the settings of the techniques that act, by name.

    Raises:
        ConflictError: the config asks for something that only training by steps can do.
        ConfigError: a technique is unknown.
    """
    for section in ("optimizer", "schedule", "loss"):
        if getattr(config, section):
            _refuse(config, f"[{section}]")
    for name in OF_STEPS:
        if getattr(config.train, name) != TrainConfig.model_fields[name].default:
            _refuse(config, f"train.{name}")
    chosen = {name: dict(table) for name, table in config.techniques.items()}
    chosen = {name: table for name, table in chosen.items() if table.pop("enabled", True)}
    for name in chosen:
        if technique_class(name).key() not in ACTING:
            _refuse(config, f"[techniques.{name}]")
    return chosen


def _refuse(config: Config, what: str) -> NoReturn:
    backbone = config.backbone
    model = "trees are" if isinstance(backbone, TreesBackboneConfig) else "logistic regression is"
    other = "text" if getattr(backbone, "inputs", "table") == "text" else "table"
    raise ConflictError(
        f'{model} not trained by steps, and {what} acts on steps; remove {what}, or use kind = "{other}"'
    )


class EstimatorEngine(Engine):
    """Fits an estimator in the place of training it, and tells the losses of its rounds as a history.

    Nothing can be resumed in the middle: a run that was stopped is fitted anew.

    Attributes:
        curves: the losses of the fit.
    """

    curves: Curves

    def __init__(
        self,
        plan: Plan,
        backbone: Backbone,
        train: Examples,
        accelerator: Any,
        settings: Settings,
        *,
        validation: Examples | None = None,
        score: Score | None = None,
        reporter: Reporter | None = None,
    ) -> None:
        # What the base class makes for steps (an optimizer, groups, a feed of batches) is not there.
        self.plan, self.backbone, self.settings = plan, backbone, settings
        self.train, self.validation, self.accelerator = train, validation, accelerator
        self.step = self.epoch = self.position = self.skipped = 0
        self._score, self.reporter = score, reporter or Reporter()
        self.attach_folder(log=None, checkpoints=None)
        self.groups = []
        self._average = None
        self.model = backbone

    def request_stop(self, reason: str) -> None:
        """Stop at once, since there is no step to wait for."""
        raise Interrupted(reason)

    def fit(self) -> None:
        """Fit the estimator, then log the losses of its rounds and the scores of the validation part."""
        backbone = cast("EstimatorBackbone", self.backbone)
        labelled = cast("EstimatorExamples", self.train)
        validation = cast("EstimatorExamples | None", self.validation)
        with self.reporter.bar("fitting", None, "rows") as bar:
            backbone.fit(
                labelled, validation, class_weights=self.class_weights(), seed=self.plan.context.seed
            )
            bar.advance(len(labelled))
        for note in backbone.estimator.notes:
            self.reporter.warn(note)
        self.curves = backbone.estimator.curves
        self._log_rounds()
        scores = self.scores()
        if scores:
            self.log({"validation": scores})

    def _log_rounds(self) -> None:
        """Log the losses up to the round that was kept, whose validation loss stands with its scores."""
        curves = self.curves
        kept = curves.at.index(curves.kept) if curves.kept in curves.at else len(curves.at) - 1
        for number in range(kept + 1):
            # Strengths of a penalty are no steps, and are counted.
            self.step = number if curves.unit == "C" else int(curves.at[number])
            record: dict[str, Any] = {"train": {"loss": curves.train[number]}}
            if curves.validation and number < kept:
                record["validation"] = {"loss": curves.validation[number]}
            self.log(record)

    def told(self) -> dict[str, Any]:
        """What ``summary.json`` says of the fit: all of its losses, and what each column contributes."""
        estimator = cast("EstimatorBackbone", self.backbone).estimator
        train = cast("EstimatorExamples", self.train)
        by_column = zip((train.number_names, train.category_names), estimator.importances(), strict=True)
        shares = {
            name: round(float(share), 6)
            for names, found in by_column
            for name, share in zip(names, found, strict=False)
        }
        ordered = sorted(shares, key=lambda name: -shares[name])
        return {"fit": self.curves.to_json(), "importances": {name: shares[name] for name in ordered}}

    def class_weights(self) -> Floats | None:
        """The weights (C,) that a technique gives to the classes, or None."""
        weigh = self.plan.one(WEIGH_CLASS)
        if weigh is None:
            return None
        # The function multiplies the terms (B, C) of a batch and looks at nothing else of it.
        ones = torch.ones(1, self.plan.context.task.n_classes, dtype=torch.float64)
        found: Floats = weigh(ones, cast("Batch", None))[0].numpy().astype(np.float64)
        return found

    def scores(self) -> dict[str, float]:
        """Score the validation part; empty where there is none."""
        if self.validation is None or self._score is None:
            return {}
        logits = predict(
            self.model, self.validation, self.accelerator, reporter=self.reporter, title="validation"
        )
        return self._score(logits, self.validation)

    def load_state(self, state: Mapping[str, Any]) -> None:
        """There is nothing to take back; the fit begins anew."""

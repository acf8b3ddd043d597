"""The decision of a model: calibration, then labels, then perhaps silence, fitted and saved as one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etude.config.decision import DecisionConfig
from etude.core.task import Task
from etude.decision.abstain import SCORES, Abstention, HeldOut, certainty, fit_abstention
from etude.decision.calibration import NONE, Calibration
from etude.decision.checks import ENOUGH, check_finite, check_held_out, fits_nothing, usable_rows
from etude.decision.fitting import fit_rule, pick_calibration
from etude.decision.folds import stratified_folds
from etude.decision.rules import Likeliest, Rule, Thresholds, rule_from_json
from etude.errors import RunError
from etude.evaluation.scored import true_labels

FORMAT = 1
"""The format of the saved decision; a later one that cannot be read by this code has a higher number."""


@dataclass(frozen=True, eq=False)
class Decision:
    """From logits to probabilities and labels.

    Attributes:
        task: the task, with its labels.
        calibration: from logits to probabilities.
        rule: from probabilities to labels.
        abstention: when a row is answered; None is always.
        notes: what happened while it was fitted that a reader of its scores should know.
    """

    task: Task
    calibration: Calibration
    rule: Rule
    abstention: Abstention | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def plain(cls, task: Task, *notes: str) -> Decision:
        """Return the decision that nothing was fitted for: uncalibrated, the likeliest label or over 0.5."""
        several = task.kind == "multilabel"
        return cls(task, NONE, Thresholds((0.5,) * task.n_classes) if several else Likeliest(), None, notes)

    @classmethod
    def fit(
        cls, task: Task, config: DecisionConfig, logits: NDArray[Any], targets: NDArray[Any], *, seed: int
    ) -> Decision:
        """Fit what the config asks for on held-out rows.

        Args:
            task: the task.
            config: what to fit; ``auto`` fits nothing where the rows are too few.
            logits: (N, C) of rows that the model was not trained on.
            targets: (N, C); of a single-label task a row of zeros is out of scope.
            seed: of the folds.

        Raises:
            ConfigError: the config does not fit the task.
            DataError: logits are not finite, or what is asked for needs more rows.
        """
        check_held_out(task, config, logits, targets)
        return _fit(task, config, logits, targets, seed, usable_rows(task, targets) >= ENOUGH)

    def probabilities(self, logits: NDArray[Any]) -> NDArray[np.float32]:
        """Return the calibrated probabilities (N, C) of logits (N, C).

        Raises:
            DataError: a logit is not finite.
        """
        check_finite(logits, "rows", "the model's weights are broken, so use those of an earlier checkpoint")
        return self.calibration.probabilities(self.task, logits)

    def decide(self, probabilities: NDArray[Any], logits: NDArray[Any]) -> NDArray[np.bool_]:
        """Return the labels (N, C) of probabilities (N, C) that came from the logits (N, C)."""
        decisions = self.rule.decide(probabilities, logits)
        if self.abstention is not None:
            decisions &= self.abstention.answers(self.task, probabilities, logits)[:, None]
        return decisions

    def apply(self, logits: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return probabilities (N, C) and labels (N, C) of logits (N, C).

        >>> from etude.core.task import Multiclass
        >>> Decision.plain(Multiclass(["a", "b"])).apply(np.array([[0.0, 1.0]], dtype=np.float32))[1]
        array([[False,  True]])
        """
        probabilities = self.probabilities(logits)
        return probabilities, self.decide(probabilities, logits)

    @cached_property
    def thresholds(self) -> tuple[float, ...] | None:
        """The threshold of each label, of a binary task (1 - t, t); None where labels have none."""
        if not isinstance(self.rule, Thresholds):
            return None
        values = self.rule.values
        return (1.0 - values[0], values[0]) if self.task.kind == "binary" else values

    def to_json(self) -> dict[str, Any]:
        """Return plain numbers and names, from which it can be made again bit for bit."""
        return {
            "kind": "decision",
            "format": FORMAT,
            "calibration": self.calibration.to_json(),
            "rule": self.rule.to_json(),
            "abstain": None if self.abstention is None else self.abstention.to_json(),
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, task: Task, content: Mapping[str, Any]) -> Decision:
        """Undo :meth:`to_json`; the two forms of models without a fitted decision are read as well.

        Raises:
            RunError: it was saved by a later version, or for other labels.
        """
        if content.get("kind") == "argmax":
            return cls.plain(task)
        if content.get("kind") == "fixed":
            n = task.n_classes if task.kind == "multilabel" else 1
            return cls(task, NONE, Thresholds((float(content["threshold"]),) * n))
        if content.get("kind") != "decision" or content.get("format") != FORMAT:
            raise RunError(
                f"the saved decision is of kind {content.get('kind')!r} and format {content.get('format')!r};"
                f" this version reads format {FORMAT}, so use the version of etude that saved the model"
            )
        try:
            abstain = content["abstain"]
            read = cls(
                task,
                Calibration.from_json(content["calibration"]),
                rule_from_json(content["rule"]),
                None if abstain is None else Abstention.from_json(abstain),
                tuple(content["notes"]),
            )
            read.apply(np.zeros((1, task.n_classes), dtype=np.float32))
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise RunError(
                f"the saved decision is damaged or was made for other labels than these {task.n_classes}: "
                f"{error!r}; save the model again"
            ) from None
        return read

    def describe(self) -> list[str]:
        """Return what it does, and what should be known of it, in sentences."""
        sentences = [self.calibration.describe(self.task), self.rule.describe(self.task)]
        if self.abstention is not None:
            sentences.append(self.abstention.describe())
        return sentences + [f"{note[0].upper()}{note[1:]}." for note in self.notes]


def cross_fit(
    task: Task, config: DecisionConfig, logits: NDArray[Any], targets: NDArray[Any], *, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return probabilities (N, C) and labels (N, C), each row's by a decision fitted on other folds.

    What they score is what the decision would score on rows that had no part in it.

    Args and errors are those of :meth:`Decision.fit`.
    """
    check_held_out(task, config, logits, targets)
    enough = usable_rows(task, targets) >= ENOUGH
    if len(logits) < 2 or fits_nothing(task, config, enough=enough):
        return _fit(task, config, logits, targets, seed, enough).apply(logits)
    folds = stratified_folds(true_labels(task, targets), config.folds, seed)
    probabilities = np.empty(logits.shape, dtype=np.float32)
    decisions = np.empty(logits.shape, dtype=np.bool_)
    for fold in range(int(folds.max()) + 1):
        held, others = folds == fold, folds != fold
        fitted = _fit(task, config, logits[others], targets[others], seed, enough)
        probabilities[held], decisions[held] = fitted.apply(logits[held])
    return probabilities, decisions


def _fit(
    task: Task, config: DecisionConfig, logits: NDArray[Any], targets: NDArray[Any], seed: int, enough: bool
) -> Decision:
    """Fit on rows that were checked; without enough of them ``auto`` fits nothing."""
    truth = true_labels(task, targets)
    known = truth.any(axis=1) if task.kind != "multilabel" else np.ones(len(truth), dtype=bool)
    calibration, notes = pick_calibration(task, config, logits[known], targets[known], seed, enough=enough)
    rule, more = fit_rule(task, config, calibration, logits[known], targets[known], seed, enough=enough)
    fitted = Decision(task, calibration, rule, None, (*notes, *more))
    if config.abstain is None:
        return fitted
    probabilities, decisions = fitted.apply(logits)
    rows = HeldOut(
        {score: certainty(score, task, probabilities, logits) for score in SCORES},
        answered=decisions.sum(axis=1) > 0,
        right=(decisions == truth).all(axis=1),
        in_scope=truth.sum(axis=1) > 0,
    )
    abstention, note = fit_abstention(config.abstain, rows)
    return Decision(task, calibration, rule, abstention, (*fitted.notes, note))

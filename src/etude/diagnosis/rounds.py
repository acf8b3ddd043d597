"""The same questions of models that are fitted by one call: boosted trees and logistic regression.

They have rounds, iterations or strengths of a penalty in the place of steps, and other settings to change.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from etude.config.estimators import EstimatorConfig, LinearBackboneConfig, TreesBackboneConfig
from etude.diagnosis.evidence import Evidence
from etude.diagnosis.verdict import Advice, Question, Verdict

ACTING = frozenset({"class_weights"})
"""Techniques that act on such a model, and may be advised."""


def backbone_of(evidence: Evidence | None) -> TreesBackboneConfig | LinearBackboneConfig | None:
    """The settings of such a model, or None where the run trained a network."""
    config = None if evidence is None else evidence.config
    return config.backbone if config is not None and isinstance(config.backbone, EstimatorConfig) else None


def converged(question: Question, evidence: Evidence) -> Verdict | None:
    """Say whether the fit came to its end; None where the run trained a network."""
    backbone, told = backbone_of(evidence), evidence.summary.get("fit")
    if backbone is None:
        return None
    if not isinstance(told, Mapping) or not told.get("at"):
        return question.answer("unknown", "The losses of the fit were not kept.")
    facts = {"kept": told["kept"], "tried": told["at"][-1], "unit": told["unit"]}
    if isinstance(backbone, TreesBackboneConfig):
        return _rounds(question, told, facts, backbone)
    if told["unit"] == "C":
        return _strengths(question, told, facts)
    if told["kept"] >= backbone.max_iter:
        sentence = f"The solver was not done after {told['kept']:,.0f} iterations."
        return question.answer(
            "bad", sentence, facts, "Raise backbone.max_iter, or make the penalty stronger."
        )
    return question.answer("good", f"The solver was done after {told['kept']:,.0f} iterations.", facts)


def _rounds(
    question: Question, told: Mapping[str, Any], facts: dict[str, Any], backbone: TreesBackboneConfig
) -> Verdict:
    kept, tried, validation = told["kept"], told["at"][-1], told["validation"]
    if not validation:
        return question.answer(
            "unknown",
            f"All {kept:,.0f} rounds were kept, and there is no validation part to tell whether fewer are "
            "better.",
            facts,
        )
    best = int(np.argmin(validation))
    facts |= {"best": told["at"][best], "loss_minimum": validation[best], "loss_last": validation[-1]}
    least = f"The validation loss was least after round {told['at'][best]:,.0f} ({validation[best]:.4f})"
    if told["at"][best] < kept:
        sentence = f"{least} and was {validation[-1]:.4f} in the end; all {kept:,.0f} rounds were kept."
        return question.answer("look", sentence, facts, "Set backbone.early_stopping, or fewer rounds.")
    if kept >= backbone.n_rounds:
        sentence = f"The validation loss still fell in the last of {kept:,.0f} rounds ({validation[-1]:.4f})."
        return question.answer("look", sentence, facts, "Allow more rounds.")
    return question.answer("good", f"{least} of {tried:,.0f}, and that round was kept.", facts)


def _strengths(question: Question, told: Mapping[str, Any], facts: dict[str, Any]) -> Verdict:
    at_end = told["kept"] in (told["at"][0], told["at"][-1])
    sentence = f"Of {len(told['at'])} strengths C = {told['kept']:g} has the least validation loss"
    if at_end:
        return question.answer(
            "look", f"{sentence}, and it is at the end of them.", facts, "Try a C beyond it."
        )
    return question.answer("good", f"{sentence}.", facts)


def best_kept(question: Question, evidence: Evidence) -> Verdict | None:
    """There are no epochs to choose from; None where the run trained a network."""
    if backbone_of(evidence) is None:
        return None
    return question.answer(
        "unknown", "There are no epochs: the fit keeps its own best round, as the first question tells."
    )


def can_act(advice: Advice) -> bool:
    """Whether advice for a network makes sense for such a model: settings of steps do not."""
    told = tomllib.loads(advice.config) if advice.config else {}
    if any(section in told for section in ("optimizer", "schedule", "loss", "train", "backbone")):
        return False
    if "retrain" in advice.command:
        return False
    return set(told.get("techniques", {})) <= ACTING


def advice_on(verdict: Verdict, evidence: Evidence) -> Iterator[Advice]:
    """What such a model's own settings can do about a verdict that is not good."""
    backbone = backbone_of(evidence)
    if verdict.verdict not in ("look", "bad") or backbone is None:
        return
    if verdict.step == "convergence":
        yield from _go_on(verdict, backbone)
    if verdict.step == "fit":
        gap = verdict.evidence.get("gap") or [0.0, 0.0]
        yield _other_capacity(verdict, backbone, less=gap[1] > 0)


def _go_on(verdict: Verdict, backbone: TreesBackboneConfig | LinearBackboneConfig) -> Iterator[Advice]:
    if isinstance(backbone, LinearBackboneConfig):
        if verdict.evidence.get("unit") == "C":
            strength = float(verdict.evidence["kept"]) * (10 if verdict.evidence["kept"] > 1 else 0.1)
            yield _advice(verdict, "A strength beyond those that were tried", f"strength = {strength:g}")
        else:
            yield _advice(verdict, "More iterations", f"max_iter = {3 * backbone.max_iter}")
    elif "best" in verdict.evidence and verdict.evidence["best"] < verdict.evidence["kept"]:
        yield _advice(verdict, "Keep the best round", "early_stopping = 20")
    else:
        yield _advice(verdict, "More rounds", f"n_rounds = {2 * backbone.n_rounds}")


def _other_capacity(
    verdict: Verdict, backbone: TreesBackboneConfig | LinearBackboneConfig, *, less: bool
) -> Advice:
    if isinstance(backbone, LinearBackboneConfig):
        known = 1.0 if backbone.strength == "auto" else backbone.strength
        title = "A stronger penalty" if less else "A weaker penalty"
        return _advice(verdict, title, f"strength = {known * (0.1 if less else 10):g}")
    leaves, rows = backbone.max_leaves, backbone.min_rows_in_leaf
    if less:
        smaller = f"max_leaves = {max(leaves // 2, 2)}\nmin_rows_in_leaf = {2 * rows}"
        return _advice(verdict, "Smaller trees", smaller)
    return _advice(
        verdict, "Larger trees", f"max_leaves = {2 * leaves}\nmin_rows_in_leaf = {max(rows // 2, 1)}"
    )


def _advice(verdict: Verdict, title: str, settings: str) -> Advice:
    return Advice(verdict.step, title, verdict.sentence, f"[backbone]\n{settings}\n")

"""What a study found, as plain values: for its page, for ``study.json`` and for whoever goes on from it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState, create_trial

from etude.search.dimension import Dimension
from etude.search.schedule import Schedule, distribution, label, place_of
from etude.search.storage import AGAIN, quiet_optuna

SETTINGS, WHY, SURPLUS, TRAINED = "settings", "why", "surplus", "trained"
"""Attributes of a trial: the settings it changed, why it failed, that it had no place, its training time."""

FEWEST = 8
"""Trials below which importances would be guesses."""

STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


def trials_of(study: optuna.Study, schedule: Schedule, stage: str) -> list[dict[str, Any]]:
    """Return the trials of a study by place; of one that was tried again, the last try.

    Args:
        study: from the storage.
        schedule: what its places are for.
        stage: the share of the rows in words.
    """
    found: dict[int, dict[str, Any]] = {}
    trials = study.get_trials(deepcopy=False)
    for trial in trials:
        place = place_of(trials, trial.number)
        if trial.user_attrs.get(SURPLUS) or place >= schedule.n:
            continue
        found[place] = _trial(trial, place, schedule, stage)
    return [found[place] for place in sorted(found)]


def _trial(trial: FrozenTrial, place: int, schedule: Schedule, stage: str) -> dict[str, Any]:
    settings = trial.user_attrs.get(SETTINGS)
    state = STATES[trial.state]
    reported = trial.intermediate_values
    value = trial.value if state == "complete" else reported[max(reported)] if reported else None
    why = trial.user_attrs.get(WHY)
    if state == "failed" and why is None:
        why = "its process died"
    return {
        "place": place,
        "number": trial.number,
        "stage": stage,
        "phase": schedule.phase(place),
        "state": state,
        "value": value if value is not None and math.isfinite(value) else None,
        "settings": settings,
        "params": {d.path: (settings or {}).get(d.path, d.default) for d in schedule.dimensions},
        "evaluations": len(reported),
        "seconds": None if trial.duration is None else trial.duration.total_seconds(),
        "trained": trial.user_attrs.get(TRAINED),
        "tries": int(trial.user_attrs.get(AGAIN, 1)),
        "why": why if state == "failed" else None,
    }


def best_of(trials: Sequence[Mapping[str, Any]], *, greater_is_better: bool) -> Mapping[str, Any] | None:
    """The finished trial with the best value, the first of equal ones; None where none finished."""
    finished = [trial for trial in trials if trial["state"] == "complete"]
    if not finished:
        return None
    return (max if greater_is_better else min)(finished, key=lambda trial: trial["value"])


def importances(
    dimensions: Sequence[Dimension], trials: Sequence[Mapping[str, Any]], *, seed: int = 0
) -> dict[str, float]:
    """How much of the scores' variance each setting explains (fANOVA, Hutter et al. 2014), largest first.

    Empty where there are too few finished trials, or all of them score the same.
    """
    usable = [
        trial
        for trial in trials
        if trial["state"] == "complete" and all(d.holds(trial["params"][d.path]) for d in dimensions)
    ]
    if len(usable) < FEWEST or np.ptp([trial["value"] for trial in usable]) == 0:
        return {}
    with quiet_optuna():
        study = optuna.create_study()
        spaces = {d.path: distribution(d) for d in dimensions}
        for trial in usable:
            params = {path: label(trial["params"][path]) for path in spaces}
            study.add_trial(create_trial(params=params, distributions=spaces, value=trial["value"]))
        found = get_param_importances(study, evaluator=FanovaImportanceEvaluator(n_trees=32, seed=seed))
    return {path: float(value) for path, value in found.items()}


def borders(dimensions: Sequence[Dimension], best: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the settings whose best value lies at the end of their range, with the range to try next."""
    found = []
    for d in dimensions:
        value = best["params"][d.path]
        end = d.edge(value)
        if end is None:
            continue
        low, high = d.wider(end)
        side = "lower" if end == "low" else "upper"
        wider = f'"{d.path}" = {{ low = {low!r}, high = {high!r}{", log = true" if d.log else ""} }}'
        found.append(
            {
                "path": d.path,
                "value": value,
                "end": end,
                "try": {"low": low, "high": high, "log": d.log},
                "sentence": f"the best {d.path}, {value:.4g}, lies at the {side} end of its range "
                f"({d.in_words()}), so that better ones may lie beyond; try {wider} in [tune.space]",
            }
        )
    return found


def scientific(
    dimensions: Sequence[Dimension], trials: Sequence[Mapping[str, Any]], *, greater_is_better: bool
) -> list[dict[str, Any]]:
    """For each combination of the scientific settings, the best that its nuisance settings allowed."""
    paths = [d.path for d in dimensions if d.role == "scientific"]
    if not paths:
        return []
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for trial in trials:
        if trial["phase"] != "default":
            groups.setdefault(repr([trial["params"][path] for path in paths]), []).append(trial)
    rows = []
    for members in groups.values():
        best = best_of(members, greater_is_better=greater_is_better)
        rows.append(
            {
                "values": {path: members[0]["params"][path] for path in paths},
                "trials": len(members),
                "finished": sum(trial["state"] == "complete" for trial in members),
                "value": None if best is None else best["value"],
                "settings": None if best is None else best["settings"],
            }
        )
    worst = -math.inf if greater_is_better else math.inf
    return sorted(
        rows, key=lambda row: worst if row["value"] is None else row["value"], reverse=greater_is_better
    )

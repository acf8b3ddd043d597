"""Making an ensemble of trained runs: a folder that the jobs of any run can be done with."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from etude.backbones.combined import METHODS, Method
from etude.backbones.model_folder import write_model_folder
from etude.config.run import Config
from etude.core.observe import Reporter
from etude.decision.postprocessor import Decision, cross_fit
from etude.ensemble.fitting import Tensors, combined, cross_fitted, fit
from etude.ensemble.members import HeldOut, Member, held_out, open_members
from etude.errors import ConfigError, closest
from etude.evaluation.scored import Scored
from etude.runs.derived import config_for, write_results
from etude.runs.folder import RunFolder

LEARNS = ("ranks", "stacking")
"""Methods that cannot do without held-out rows."""


@dataclass(frozen=True)
class Made:
    """An ensemble or a soup that was made.

    Attributes:
        folder: its own, as a run's.
        method: how the members are joined.
        members: the runs, with their weight and their main score on the same held-out rows.
        scores, intervals: of the whole, by part.
        metric: the task's main metric.
        notes: sentences that the user should read.
    """

    folder: Path
    method: str
    members: list[dict[str, Any]]
    scores: dict[str, dict[str, float]]
    intervals: dict[str, dict[str, list[float]]]
    metric: str
    notes: list[str]

    def to_json(self) -> dict[str, Any]:
        """Everything by name, for a file."""
        return {**vars(self), "folder": str(self.folder)}


def make_ensemble(
    paths: Sequence[Path],
    output: Path,
    *,
    method: str = "probabilities",
    fitted: bool = False,
    reporter: Reporter | None = None,
) -> Made:
    """Make an ensemble of finished runs in a new folder.

    The members may differ in anything but their labels and the data that they were trained on. Where they are
    the folds of one split, scores are out of fold.

    Args:
        paths: the runs.
        output: the ensemble's folder.
        method: ``probabilities``, ``logits``, ``ranks`` or ``stacking``.
        fitted: whether members get the weights that fit held-out rows best; equal ones otherwise.
        reporter: who tells of progress.

    Raises:
        ConfigError: the method is unknown, or cannot be used with these members.
        RunError: a run cannot be used, or the folder is not free.
    """
    if method not in METHODS:
        raise ConfigError(
            f"there is no method {method!r}{closest(method, METHODS)}; choose from {', '.join(METHODS)}"
        )
    chosen: Method = method  # type: ignore[assignment]  # one of METHODS
    RunFolder.refuse_used(output)
    members = open_members(paths)
    rows = held_out(members)
    _refuse_unfit(chosen, rows, fitted=fitted)
    reporter = reporter or Reporter()
    config = config_for(members[0].config, output)
    notes: list[str] = []
    tensors, decision, validation = _join(members, chosen, rows, config, fitted=fitted)
    parts: dict[str, Scored] = {}
    if validation is None:
        notes.append(
            "the members have too few held-out rows in common, so that nothing was fitted and there is no "
            "validation score; give the runs one validation file, or data.folds"
        )
    else:
        parts["validation"] = validation
    tested = held_out(members, "test")
    if tested is not None:
        z = combined(tested.logits, chosen, tensors, tested.scored.task)
        parts["test"] = _scored(tested.scored, z, *decision.apply(z))
    folder = RunFolder.create(config)
    _save(folder, members, chosen, tensors, decision)
    told = [_told(member, tensors, i, rows) for i, member in enumerate(members)]
    more = {"ensemble": {"method": method, "members": told}}
    judgement = write_results(
        folder, config, decision, parts, more, f"ensemble of {len(members)} models", reporter
    )
    return Made(
        folder=output,
        method=method,
        members=told,
        scores={part: found for part, found in judgement.metrics.items() if part != "train"},
        intervals=judgement.intervals,
        metric=members[0].task.main_metric,
        notes=notes,
    )


def _refuse_unfit(method: Method, rows: HeldOut | None, *, fitted: bool) -> None:
    wants = "stacking" if method == "stacking" else "ranks" if method == "ranks" else "fitted weights"
    if not (fitted or method in LEARNS):
        return
    if rows is None:
        raise ConfigError(
            f"{wants} need rows that no member was trained on, and these runs share too few of them; "
            "give the runs one validation file, or use equal weights of probabilities or logits"
        )
    if rows.folds:
        raise ConfigError(
            f"{wants} need all members' predictions of the same rows, and each of these is held out of "
            "one fold alone; make an ensemble of each recipe's folds first, and then one of those"
        )


def _join(
    members: Sequence[Member], method: Method, rows: HeldOut | None, config: Config, *, fitted: bool
) -> tuple[Tensors, Decision, Scored | None]:
    """Return what joins the members, the decision, and the held-out rows as the whole sees them."""
    task, n = members[0].task, len(members)
    equal: Tensors = {"weights": np.full(n, 1 / n, dtype=np.float32)}
    if rows is None:
        return equal, Decision.plain(task), None
    targets, seed = rows.scored.targets, config.seed
    if rows.folds:
        tensors, z = equal, rows.logits[0]
        inside = z
    else:
        tensors = fit(task, method, rows.logits, targets, fitted=fitted, seed=seed)
        z = cross_fitted(task, method, rows.logits, targets, fitted=fitted, seed=seed)
        inside = combined(rows.logits, method, tensors, task)
    decision = Decision.fit(task, config.decision, inside, targets, seed=seed)
    applied = cross_fit(task, config.decision, z, targets, seed=seed)
    return tensors, decision, _scored(rows.scored, z, *applied)


def _scored(rows: Scored, logits: Any, probabilities: Any, decisions: Any) -> Scored:
    return Scored(rows.task, logits, probabilities, decisions, rows.targets, rows.texts, rows.rows)


def _save(
    folder: RunFolder, members: Sequence[Member], method: Method, tensors: Tensors, decision: Decision
) -> None:
    names = [f"members/{i}" for i in range(len(members))]
    first = members[0].metadata
    columns = {key: first["input"].get(key) for key in ("labels", "label_separator", "out_of_scope", "text")}
    trained_with = sorted({name for member in members for name in member.metadata.get("techniques", [])})
    metadata = {
        "format": 1,
        "task": first["task"],
        "labels": first["labels"],
        "techniques": trained_with,
        "input": {**columns, "kind": "ensemble"},
        "ensemble": {"method": method, "members": names, "from": [str(member.path) for member in members]},
        "decision": decision.to_json(),
    }

    def add(partial: Path) -> None:
        for name, member in zip(names, members, strict=True):
            shutil.copytree(member.model, partial / name)

    state = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in tensors.items()}
    write_model_folder(folder.model, state, metadata, add)


def _told(member: Member, tensors: Tensors, place: int, rows: HeldOut | None) -> dict[str, Any]:
    """A member's path, weight and main score on the rows that the whole is scored on."""
    weights = tensors.get("weights")
    told: dict[str, Any] = {"run": str(member.path)}
    told["weight"] = None if weights is None else float(weights[place])
    scored = member.validation
    if rows is not None and scored is not None:
        z = scored.logits if rows.folds else rows.logits[place]
        targets = scored.targets if rows.folds else rows.scored.targets
        told["score"] = plain_score(member, z, targets)
    return told


def plain_score(member: Member, logits: Any, targets: Any) -> float:
    """The main metric of plain decisions on rows with these logits."""
    from etude.evaluation.metrics import score

    probabilities, decisions = Decision.plain(member.task).apply(logits)
    return float(score(member.task, probabilities, targets, decisions)[member.task.main_metric])

"""The members of an ensemble: trained runs, or ensembles of them, with what they say of held-out rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from etude.config.run import Config
from etude.core.task import Task, make_task
from etude.decision.affine import affine
from etude.decision.calibration import Calibration
from etude.decision.postprocessor import Decision
from etude.errors import ConfigError, RunError
from etude.evaluation.scored import Scored
from etude.runs.folder import RunFolder, find_model, folder_of_results, read_metadata
from etude.runs.predictions import read_predictions

FEWEST = 20
"""Rows that no member was trained on, below which nothing is fitted."""


@dataclass(frozen=True)
class Member:
    """A trained run.

    Attributes:
        path: as it was named.
        model: the folder of its model.
        metadata: what the model's ``etude.json`` says.
        config: the run's.
        task: its task.
        validation, test: what its model says of these parts, or None; logits are those of the saved model.
    """

    path: Path
    model: Path
    metadata: dict[str, Any]
    config: Config
    task: Task
    validation: Scored | None
    test: Scored | None


def open_members(paths: Sequence[Path]) -> list[Member]:
    """Open the members, and see that they are models of the same task.

    Raises:
        ConfigError: there are fewer than two, or one is named twice.
        RunError: one is no finished run, or is of other labels.
    """
    if len(paths) < 2:
        raise ConfigError(f"{len(paths)} run is no ensemble; name at least two")
    repeated = next((path for i, path in enumerate(paths) if path in paths[:i]), None)
    if repeated is not None:
        raise ConfigError(f"{repeated} is named twice; name each run once")
    members = [_open(path) for path in paths]
    first = members[0]
    for member in members[1:]:
        if member.task.kind != first.task.kind or member.task.labels != first.task.labels:
            raise RunError(
                f"{member.path} predicts other labels than {first.path}; an ensemble needs runs of the same "
                "task, with the same labels in the same order"
            )
    return members


def _open(path: Path) -> Member:
    folder, config = RunFolder.open(folder_of_results(path))
    model = find_model(folder.path)
    metadata = read_metadata(model)
    task = make_task(metadata["task"], metadata["labels"])
    parts = {
        part: _as_saved(read_predictions(folder.path, part, task), metadata)
        for part in ("validation", "test")
    }
    return Member(path, model, metadata, config, task, parts["validation"], parts["test"])


def _as_saved(scored: Scored | None, metadata: dict[str, Any]) -> Scored | None:
    """Predictions with the logits that the saved model gives, whose head may hold the calibration."""
    inside = metadata.get("calibration_in_head")
    if scored is None:
        return None
    if inside is None:
        return replace(scored, logits=np.array(scored.logits))  # what a file gave cannot be written to
    plain = Decision.plain(scored.task)
    found = affine(Decision(scored.task, Calibration.from_json(inside), plain.rule))
    if found is None:
        return scored
    scale, offset = found
    return replace(scored, logits=(scored.logits * scale + offset).astype(np.float32))


@dataclass(frozen=True)
class HeldOut:
    """Rows that no member was trained on, with what the members say of them.

    Attributes:
        logits: (M, N, C); of folds (1, N, C), each row's by the one member that has not seen it.
        scored: the rows themselves; its logits are those of the first member.
        folds: whether the rows are those of folds.
    """

    logits: Any
    scored: Scored
    folds: bool


def are_folds(members: Sequence[Member]) -> bool:
    """Whether the members are the folds of one split, each once."""
    data = [member.config.data for member in members]
    same = all(d.folds == data[0].folds and d.folds is not None for d in data)
    seeds = {member.config.seed for member in members}
    return same and len(seeds) == 1 and len({d.fold for d in data}) == len(members)


def held_out(members: Sequence[Member], part: str = "validation") -> HeldOut | None:
    """Return the rows of a part that all members share, or of folds all rows; None where they are too few.

    Raises:
        RunError: a row is not the same in two members.
    """
    parts = [getattr(member, part) for member in members]
    known = [scored for scored in parts if scored is not None]
    if len(known) < len(members):
        return None
    if part == "validation" and are_folds(members):
        return _out_of_fold(known)
    rows = known[0].rows
    for scored in known[1:]:
        rows = np.intersect1d(rows, scored.rows)
    fewest = FEWEST if any(len(scored) != len(rows) for scored in known) else 1
    if len(rows) < fewest:
        return None
    taken = [_rows_of(scored, rows) for scored in known]
    for member, scored in zip(members[1:], taken[1:], strict=True):
        _refuse_other_rows(taken[0], scored, members[0].path, member.path, part)
    return HeldOut(np.stack([scored.logits for scored in taken]), taken[0], folds=False)


def _out_of_fold(parts: Sequence[Scored]) -> HeldOut:
    order = np.argsort(np.concatenate([scored.rows for scored in parts]), kind="stable")

    def joined(name: str) -> Any:
        return np.concatenate([getattr(scored, name) for scored in parts])[order]

    texts = [text for scored in parts for text in scored.texts]
    scored = Scored(
        parts[0].task,
        joined("logits"),
        joined("probabilities"),
        joined("decisions"),
        joined("targets"),
        [texts[i] for i in order.tolist()],
        joined("rows"),
    )
    return HeldOut(scored.logits[None], scored, folds=True)


def _rows_of(scored: Scored, rows: Any) -> Scored:
    places = {int(row): i for i, row in enumerate(scored.rows)}
    taken = np.array([places[int(row)] for row in rows], dtype=np.int64)
    return Scored(
        scored.task,
        scored.logits[taken],
        scored.probabilities[taken],
        scored.decisions[taken],
        scored.targets[taken],
        [scored.texts[i] for i in taken.tolist()],
        scored.rows[taken],
    )


def _refuse_other_rows(a: Scored, b: Scored, path_a: Path, path_b: Path, part: str) -> None:
    differs = [i for i, (one, other) in enumerate(zip(a.texts, b.texts, strict=True)) if one != other]
    differs += np.flatnonzero((a.targets != b.targets).any(axis=1)).tolist()
    if differs:
        raise RunError(
            f"row {a.rows[differs[0]]} of the {part} part is not the same in {path_a} and {path_b}; an "
            "ensemble needs runs on the same data"
        )

"""The report of a run, from whatever its folder holds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from etude.config.load import load_config
from etude.config.run import Config
from etude.core.task import Kind, Task, make_task
from etude.diagnosis import Evidence, RowLosses, Verdict, diagnose, what_next
from etude.errors import EtudeError, RunError
from etude.evaluation.scored import Scored
from etude.report.html import render_report
from etude.report.record import RunRecord
from etude.runs.folder import CONFIG, ENVIRONMENT, METRICS, PLAN, PREDICTIONS, SUMMARY, RunFolder, whole_file
from etude.runs.losses import read_losses
from etude.runs.predictions import read_predictions

REPORT, DIAGNOSIS = "report.html", "diagnosis.json"
PARTS = ("train", "validation", "test")


def write_report(folder: Path, *, output: Path | None = None) -> Path:
    """Write the page of a run and return where it is; a run that was stopped is told as far as it came.

    Args:
        folder: the run's folder.
        output: the page; ``report.html`` in the folder if absent.

    Raises:
        RunError: the folder holds no run, or the page cannot be written.
    """
    page = render_report(read_record(folder))
    path = output or folder / REPORT
    with whole_file(
        path, f"make room, or choose another place with: etude report {folder} --output FILE"
    ) as file:
        file.write_text(page, encoding="utf-8", errors="replace")
    return path


def read_record(folder: Path) -> RunRecord:
    """Collect what a run's folder holds; what is missing or damaged is told and not an error.

    Raises:
        RunError: the folder holds no run.
    """
    if not (folder / CONFIG).is_file():
        raise RunError(f"{folder} holds no run: there is no {CONFIG} in it; name the folder of a run")
    missing: list[str] = []
    history = RunFolder(folder).history()
    summary = _mapping(_read_json(folder / SUMMARY, missing))
    if not (folder / SUMMARY).exists():
        missing.append(_stopped(folder, history))
    parts = dict(_read_parts(folder, summary, missing))
    losses = _losses(folder, missing)
    config = _config(folder, missing)
    task = next((scored.task for scored in parts.values()), None) or _history_task(summary, history)
    evidence = Evidence(task, history, parts, summary, losses, config)
    verdicts, advice = _diagnosis(folder, evidence, missing)
    return RunRecord(
        name=folder.resolve().name,
        finished=bool(summary),
        missing=missing,
        config=_read_text(folder / CONFIG),
        plan=_read_text(folder / PLAN),
        environment=_mapping(_read_json(folder / ENVIRONMENT, missing)),
        history=history,
        summary=summary,
        verdicts=verdicts,
        advice=advice,
        parts=parts,
        losses=losses,
        decided_by="f1" if config is None else config.decision.metric,
    )


def _stopped(folder: Path, history: Sequence[Mapping[str, Any]]) -> str:
    last = max((record["step"] for record in history if isinstance(record.get("step"), int)), default=None)
    reached = (
        f"its last record is of step {last:,}" if last is not None else f"there is nothing in {METRICS} yet"
    )
    return (
        f"There is no {SUMMARY}, so that scores are not known; {reached}. Go on with: etude resume {folder}"
    )


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _read_json(path: Path, missing: list[str]) -> Any:
    """What a JSON file holds; None where there is none, or where it is damaged, which is told."""
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        missing.append(f"{path.name} cannot be read: {error}")
        return None


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _read_parts(folder: Path, summary: Mapping[str, Any], missing: list[str]) -> Iterable[tuple[str, Scored]]:
    """The predictions that there are."""
    for part in PARTS:
        path = folder / PREDICTIONS / f"{part}.parquet"
        if not path.exists():
            continue
        try:
            scored = read_predictions(folder, part, _task(path, summary))
        except EtudeError as error:
            missing.append(str(error))
            continue
        if scored is not None:
            yield part, scored


def _task(path: Path, summary: Mapping[str, Any]) -> Task:
    """The task by the summary; without one, by the columns of the predictions.

    Raises:
        EtudeError: the file cannot be read, or tells of no labels.
    """
    if summary.get("task") and summary.get("labels"):
        return make_task(summary["task"], summary["labels"])
    try:
        table = pq.read_table(path, columns=["labels"])
        names = pq.read_schema(path).names
    except (pa.ArrowException, OSError, KeyError) as error:
        raise RunError(f"{path} cannot be read as predictions: {error}") from None
    labels = [name[2:] for name in names if name.startswith("p:")]
    several = any(len(row) != 1 for row in table["labels"].to_pylist())
    kind: Kind = "multilabel" if several else "binary" if len(labels) == 2 else "multiclass"
    return make_task(kind, labels)


def _diagnosis(
    folder: Path, evidence: Evidence, missing: list[str]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The verdicts that the run left, or else made now from what there is, and what they suggest."""
    kept = _read_json(folder / DIAGNOSIS, missing)
    verdicts = [_verdict(told) for told in kept if isinstance(told, dict)] if isinstance(kept, list) else []
    verdicts = verdicts or diagnose(evidence)
    advice = what_next(verdicts, evidence)
    return [verdict.to_json() for verdict in verdicts], [piece.to_json() for piece in advice]


def _verdict(told: Mapping[str, Any]) -> Verdict:
    """A verdict as :meth:`Verdict.to_json` wrote it."""
    status = told.get("verdict")
    return Verdict(
        step=str(told.get("step", "")),
        question=str(told.get("question", "")),
        verdict=status if status in ("good", "look", "bad") else "unknown",
        sentence=str(told.get("sentence", "")),
        evidence=_mapping(told.get("evidence")),
        advice=[str(line) for line in told.get("advice") or ()],
    )


def _history_task(summary: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> Task:
    """The task of a run without predictions; where nothing tells its labels, two that stand for them.

    No question about a history alone asks for the labels.
    """
    labels = summary.get("labels") or ("no", "yes")
    if summary.get("task"):
        return make_task(summary["task"], labels)
    # Only multilabel tasks are scored by the share of wrong entries.
    several = any("hamming_loss" in _mapping(record.get("validation")) for record in history)
    return make_task("multilabel" if several else "multiclass", labels)


def _config(folder: Path, missing: list[str]) -> Config | None:
    try:
        return load_config(folder / CONFIG)
    except EtudeError as error:
        missing.append(f"{CONFIG} cannot be read: {error}")
        return None


def _losses(folder: Path, missing: list[str]) -> RowLosses | None:
    """The loss of each training row over epochs; that it is damaged is told."""
    try:
        return read_losses(folder)
    except EtudeError as error:
        missing.append(str(error))
        return None

"""How far probabilities can be believed, and what each label's threshold does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from etude.decision.counts import count_metric
from etude.decision.sweep import threshold_curve
from etude.evaluation.reliability import N_BINS, Bin, confidences, reliability_bins
from etude.evaluation.scored import Scored
from etude.report.charts import brief, reliability_chart, threshold_chart
from etude.report.curves import Chart
from etude.report.line_charts import evenly
from etude.report.page import Column, Table, score
from etude.report.record import Limits, RunRecord
from etude.report.sections import PARTS, number_at
from etude.report.words import metric_title, plural

CURVE_POINTS = 60


def reliability(record: RunRecord) -> Chart | None:
    """How often what the model says is true, over how probable it calls it, before and after calibration."""
    found = record.unseen()
    if found is None or not _finite(found[1]):
        return None
    part, scored = found
    before = scored.task.probabilities(torch.from_numpy(np.array(scored.logits))).numpy()
    calibrated = not np.allclose(before, scored.probabilities, atol=1e-4)
    curves = {"before calibration" if calibrated else "probabilities": _bins(scored, before)}
    if calibrated:
        curves["after calibration"] = _bins(scored, scored.probabilities)
    if not any(curves.values()):
        return None
    points = [
        {"s": name, "p": group.confidence, "right": group.accuracy, "n": group.rows}
        for name, groups in curves.items()
        for group in groups
    ]
    sentence = (
        f"On the dashed line a probability is as often right as it says; below it the model is too sure "
        f"({part} part, groups of equally many answers)."
    )
    errors = [number_at(record.summary, "calibration", part, when, "ece") for when in ("before", "after")]
    if calibrated and None not in errors:
        sentence += f" Calibration took the error from {score(errors[0])} to {score(errors[1])}."
    return Chart("reliability", "", sentence, reliability_chart(points, sentence=sentence))


def _bins(scored: Scored, probabilities: Any) -> list[Bin]:
    told, holds = confidences(scored.task, probabilities, scored.targets)
    return reliability_bins(told, holds, N_BINS)


def _finite(scored: Scored) -> bool:
    return bool(np.isfinite(scored.logits).all() and np.isfinite(scored.probabilities).all())


def calibration_table(record: RunRecord) -> Table | None:
    """The errors of the probabilities before and after calibration."""
    told = record.summary.get("calibration")
    if not isinstance(told, Mapping):
        return None
    names = (("ece", "Calibration error"), ("brier", "Brier score"), ("nll", "Log loss"))
    rows = [
        [title, part, number_at(told, part, "before", name), number_at(told, part, "after", name)]
        for part in PARTS
        for name, title in names
        if number_at(told, part, "before", name) is not None
    ]
    if not rows:
        return None
    columns = [Column("Error"), Column("Part"), Column("Before", "score"), Column("After", "score")]
    return Table("Errors of the probabilities; less is better.", columns, rows)


def thresholds(record: RunRecord, limits: Limits) -> Chart | None:
    """A metric over the threshold of each label, where a threshold decides."""
    found = record._first("validation", "test")
    if found is None or record.kind == "multiclass" or not _finite(found[1]):
        return None
    part, scored = found
    chosen = _chosen(record)
    metric = str((record.summary.get("decision") or {}).get("metric") or "f1")
    rows = scored.truth.sum(axis=0)
    labels = range(scored.task.n_classes) if scored.task.kind == "multilabel" else range(1, 2)
    positive = [c for c in labels if rows[c] > 0]
    drawn = sorted(sorted(positive, key=lambda c: -rows[c])[: limits.labels * 2])
    if not drawn:
        return None
    curves = [
        {"label": scored.task.labels[c], "t": brief(t), "v": brief(v)}
        for c in drawn
        for t, v in _curve(scored, c, metric)
    ]
    names = [scored.task.labels[c] for c in drawn]
    marked = {name: chosen[name] for name in names if name in chosen}
    title = metric_title(metric.rpartition("_")[0] or metric)
    sentence = f"{title} of a label over its threshold, on the {part} part"
    sentence += "; the upright line is the threshold in use." if marked else "."
    if len(drawn) < len(list(labels)):
        sentence += f" {plural(len(drawn), 'label')} with the most rows can be picked."
    first = max(drawn, key=lambda c: rows[c])
    spec = threshold_chart(curves, marked, sentence=sentence, metric=title, first=scored.task.labels[first])
    return Chart("thresholds", "", sentence, spec)


def _curve(scored: Scored, label: int, metric: str) -> list[tuple[float, float]]:
    """Some points of the exact curve, its highest among them."""
    cuts, values = threshold_curve(
        scored.probabilities[:, label], scored.truth[:, label], count_metric(metric)
    )
    kept = sorted({*evenly(range(len(cuts)), CURVE_POINTS), int(np.argmax(values))})
    return [(float(cuts[i]), float(values[i])) for i in kept]


def _chosen(record: RunRecord) -> dict[str, float]:
    """The threshold of each label, as the tables by label tell it."""
    for table in (record.summary.get("per_class") or {}).values():
        found = {str(row["label"]): number_at(row, "threshold") for row in table if "threshold" in row}
        if found:
            return {name: value for name, value in found.items() if value is not None}
    return {}

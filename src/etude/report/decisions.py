"""How far probabilities can be believed, and what each label's threshold does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from etude.config.decision import split_metric
from etude.decision.counts import count_metric
from etude.decision.sweep import threshold_curve
from etude.evaluation.reliability import N_BINS, Bin, confidences, reliability_bins
from etude.evaluation.scored import Scored
from etude.report.charts import brief, reliability_chart, threshold_chart
from etude.report.curves import Chart
from etude.report.page import Column, Table, score
from etude.report.record import Limits, RunRecord
from etude.report.sections import PARTS, number_at
from etude.report.words import metric_title, plural, short_names

CURVE_POINTS = 60
FEWEST = 20
"""Answers of a group below which its share says little."""


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
    several = scored.task.kind == "multilabel"
    grouped = f"equal width with {FEWEST} answers or more" if several else "equally many answers"
    sentence = (
        f"On the dashed line a probability is as often right as it says; below it the model is too sure "
        f"({part} part, groups of {grouped})."
    )
    errors = [number_at(record.summary, "calibration", part, when, "ece") for when in ("before", "after")]
    if calibrated and None not in errors:
        sentence += f" Calibration took the error from {score(errors[0])} to {score(errors[1])}."
    return Chart("reliability", "", sentence, reliability_chart(points, sentence=sentence))


def _bins(scored: Scored, probabilities: NDArray[Any]) -> list[Bin]:
    """Groups of equally many answers; of a multilabel task, whose answers crowd at 0, of equal width."""
    told, holds = confidences(scored.task, probabilities, scored.targets)
    if scored.task.kind != "multilabel":
        return reliability_bins(told, holds, N_BINS)
    places = np.minimum((told * N_BINS).astype(np.int64), N_BINS - 1)
    groups = (places == place for place in np.unique(places))
    return [
        Bin(
            float(told[group].min()),
            float(told[group].max()),
            float(told[group].mean()),
            float(holds[group].mean()),
            int(group.sum()),
        )
        for group in groups
        if group.sum() >= FEWEST
    ]


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
    found = record.first("validation", "test")
    if found is None or record.kind == "multiclass" or not _finite(found[1]):
        return None
    part, scored = found
    metric, _ = split_metric(record.decided_by)
    metric = "f1" if metric == "cost" else metric
    rows = scored.truth.sum(axis=0)
    labels = range(scored.task.n_classes) if scored.task.kind == "multilabel" else range(1, 2)
    drawn = sorted(sorted((c for c in labels if rows[c] > 0), key=lambda c: -rows[c])[: 2 * limits.labels])
    if not drawn:
        return None
    names = dict(zip(drawn, short_names([scored.task.labels[c] for c in drawn]), strict=True))
    curves = [{"label": names[c], "t": t, "v": v} for c in drawn for t, v in _curve(scored, c, metric)]
    chosen = _chosen(record)
    marked = {names[c]: chosen[label] for c in drawn if (label := scored.task.labels[c]) in chosen}
    title = metric_title(metric)
    sentence = f"{title[0].upper()}{title[1:]} of a label over its threshold, on the {part} part"
    sentence += "; the upright line is the threshold in use." if marked else "."
    if len(drawn) < len(labels):
        sentence += f" {plural(len(drawn), 'label')} with the most rows can be picked."
    first = names[max(drawn, key=lambda c: rows[c])]
    spec = threshold_chart(curves, marked, sentence=sentence, metric=title, first=first)
    return Chart("thresholds", "", sentence, spec)


def _curve(scored: Scored, label: int, metric: str) -> list[tuple[float, float]]:
    """Points of the exact curve, about evenly spread over the thresholds, its highest among them."""
    scores, truth = scored.probabilities[:, label], scored.truth[:, label]
    cuts, values = threshold_curve(scores, truth, count_metric(metric))
    near = np.searchsorted(cuts, np.linspace(0, 1, CURVE_POINTS)).clip(max=len(cuts) - 1)
    kept = np.unique([0, *near.tolist(), int(values.argmax())])
    return [(brief(cuts[i]), brief(values[i])) for i in kept]


def _chosen(record: RunRecord) -> dict[str, float]:
    """The threshold of each label, as the tables by label tell it."""
    for table in (record.summary.get("per_class") or {}).values():
        found = {str(row["label"]): number_at(row, "threshold") for row in table if "threshold" in row}
        if found:
            return {name: value for name, value in found.items() if value is not None}
    return {}

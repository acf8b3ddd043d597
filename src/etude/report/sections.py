"""The sections of a report that come from the summary: scores, decisions, labels, baselines, advice.

Each function takes the run's record and returns what the template shows, or None where the run has
nothing to show.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from etude.report.charts import bar_chart
from etude.report.curves import Chart
from etude.report.page import Column, Table, change, interval, score
from etude.report.record import Limits, RunRecord
from etude.report.words import listed, metric_meaning, metric_title, plural, seconds

BASELINES = {
    "zero_rule": "zero rule",
    "tfidf_logistic": "TF-IDF + logistic regression",
    "frozen_logistic": "frozen features + logistic regression",
    "boosted_trees": "gradient-boosted trees",
}
PARTS = ("test", "validation")
"""The parts that scores are shown of; what counts most comes first."""


def number_at(table: Any, *path: str) -> float | None:
    """Return the finite number at the end of nested keys, or None.

    >>> number_at({"test": {"f1": 0.5}}, "test", "f1"), number_at({"test": None}, "test", "f1")
    (0.5, None)
    """
    for name in path:
        table = table.get(name) if isinstance(table, Mapping) else None
    if isinstance(table, bool) or not isinstance(table, (int, float)) or not math.isfinite(table):
        return None
    return float(table)


def bounds_at(table: Any, *path: str) -> tuple[float, float] | None:
    """Return the two finite numbers at the end of nested keys, or None."""
    for name in path:
        table = table.get(name) if isinstance(table, Mapping) else None
    if not isinstance(table, Sequence) or isinstance(table, str) or len(table) != 2:
        return None
    low, high = (number_at({"x": value}, "x") for value in table)
    return None if low is None or high is None else (low, high)


def lead(record: RunRecord) -> str:
    """One sentence on what was trained."""
    summary = record.summary
    labels, rows = summary.get("labels") or (), summary.get("rows") or {}
    words = []
    if record.kind:
        named = f" of {plural(len(labels), 'label')}" if labels else ""
        words.append(f"A {record.kind} model{named}")
    counts = [f"{rows[part]:,} {part}" for part in ("train", "validation", "test") if part in rows]
    if counts:
        words.append(f"{listed(counts)} rows")
    if number_at(summary, "steps") is not None:
        spent = number_at(summary, "seconds", "train")
        took = f" in {seconds(spent)}" if spent is not None else ""
        words.append(f"{plural(int(summary['steps']), 'step')}{took}")
    return f"{'; '.join(words)}." if words else ""


def headline(record: RunRecord) -> list[dict[str, Any]]:
    """The main metric of each part, with its interval and what the fitted decisions changed."""
    metric, summary, found = record.main_metric, record.summary, []
    for part in PARTS:
        value = number_at(summary, "metrics", part, metric)
        if value is None:
            continue
        bounds, rows = bounds_at(summary, "intervals", part, metric), number_at(summary, "rows", part)
        found.append(
            {
                "title": f"{metric_title(metric)}, {part}",
                "value": score(value),
                "interval": f"95 % interval {interval(bounds)}" if bounds else "no interval",
                "rows": plural(int(rows), "row") if rows is not None else "",
                "gain": _gain_in_words(summary, part, metric),
            }
        )
    return found


def _gain_in_words(summary: Mapping[str, Any], part: str, metric: str) -> str:
    value = number_at(summary, "gain", part, metric, "difference")
    if value is None:
        return ""
    bounds = [number_at(summary, "gain", part, metric, end) for end in ("low", "high")]
    if value == 0 and not any(bounds):
        return "not changed by the fitted decisions"
    return f"{change(value)} ({change(bounds[0])} to {change(bounds[1])}) by the fitted decisions"


def metrics_table(record: RunRecord) -> Table | None:
    """Every metric of every part with its interval."""
    metrics = record.summary.get("metrics") or {}
    parts = [part for part in PARTS if isinstance(metrics.get(part), Mapping) and metrics[part]]
    if not parts:
        return None
    names = list(dict.fromkeys(name for part in parts for name in metrics[part]))
    names.sort(key=lambda name: name != record.main_metric)
    columns = [Column("Metric")]
    for part in parts:
        columns += [Column(part.capitalize(), "score"), Column(f"95 % interval, {part}", "interval")]
    rows = [
        [
            metric_title(name),
            *(
                cell
                for part in parts
                for cell in (
                    number_at(metrics, part, name),
                    bounds_at(record.summary, "intervals", part, name),
                )
            ),
        ]
        for name in names
    ]
    return Table("All metrics; a heading sorts by its column.", columns, rows)


def meanings(record: RunRecord) -> list[tuple[str, str]]:
    """The metrics of the report in words: pairs of title and meaning."""
    metrics = record.summary.get("metrics") or {}
    names = dict.fromkeys(name for part in PARTS for name in metrics.get(part) or ())
    return [(metric_title(name), meaning) for name in names if (meaning := metric_meaning(name))]


def gain_table(record: RunRecord) -> Table | None:
    """What calibration and fitted thresholds changed against plain decisions on the same rows."""
    part = next((part for part in PARTS if (record.summary.get("gain") or {}).get(part)), None)
    if part is None:
        return None
    gains = record.summary["gain"][part]
    rows = [
        [
            metric_title(name),
            number_at(record.summary, "plain", part, name),
            number_at(record.summary, "metrics", part, name),
            number_at(gains, name, "difference"),
            _pair(number_at(gains, name, "low"), number_at(gains, name, "high")),
            number_at(gains, name, "p"),
        ]
        for name in sorted(gains, key=lambda name: name != record.main_metric)
    ]
    columns = [
        Column("Metric"),
        Column("Plain", "score", "The likeliest label, or every label from 0.5 on, without calibration"),
        Column("Fitted", "score", "With the calibration and the thresholds of this run"),
        Column("Difference", "change"),
        Column("95 % interval", "interval"),
        Column("p", "score", "How often chance alone would give such a difference"),
    ]
    return Table(f"Plain and fitted decisions on the same rows of the {part} part.", columns, rows)


def _pair(low: float | None, high: float | None) -> tuple[float, float] | None:
    return None if low is None or high is None else (low, high)


def decision_in_words(record: RunRecord) -> list[str]:
    """What turns scores into labels, a sentence each."""
    told = record.summary.get("decision_in_words")
    return [str(line) for line in told] if isinstance(told, Sequence) and not isinstance(told, str) else []


def kept_weights(record: RunRecord) -> Table | None:
    """The scores of the last, the best and the averaged weights, and which of them were kept."""
    final = record.summary.get("final")
    scores = final.get("scores") if isinstance(final, Mapping) else None
    if not isinstance(final, Mapping) or not isinstance(scores, Mapping) or not scores:
        return None
    metrics = [
        record.main_metric,
        *(name for name in ("f1_macro", "accuracy", "loss") if name != record.main_metric),
    ]
    names = [name for name in metrics if any(number_at(scores, kind, name) is not None for kind in scores)]
    rows = [
        [
            f"{kind}, kept" if kind == final.get("kept") else kind,
            *(number_at(scores, kind, name) for name in names),
        ]
        for kind in scores
    ]
    columns = [
        Column("Weights"),
        *(Column(metric_title(name), "score", metric_meaning(name)) for name in names),
    ]
    return Table("Which weights were kept, by scores of the validation part.", columns, rows)


def per_class_table(record: RunRecord, limits: Limits) -> Table | None:
    """Precision, recall and F1 of each label."""
    tables = record.summary.get("per_class") or {}
    part = next((part for part in PARTS if tables.get(part)), None)
    if part is None:
        return None
    rows = [row for row in tables[part] if isinstance(row, Mapping) and "label" in row]
    # Of very many labels those with most rows are shown: their numbers mean most.
    shown = sorted(rows, key=lambda row: -(number_at(row, "rows") or 0))[: limits.rows]
    chosen = {id(row) for row in shown}
    shown = [row for row in rows if id(row) in chosen]
    columns = [
        Column("Label", "label"),
        Column("F1", "bar", metric_meaning("f1")),
        Column("Precision", "score", metric_meaning("precision")),
        Column("Recall", "score", metric_meaning("recall")),
        Column("Rows", "count", "Rows of this part that carry the label"),
    ]
    keys = ["f1", "precision", "recall", "rows"]
    if any("threshold" in row for row in shown):
        columns.append(Column("Threshold", "score", "The probability from which on the label is given"))
        keys.append("threshold")
    cells = [[str(row["label"]), *(number_at(row, key) for key in keys)] for row in shown]
    left = len(rows) - len(shown)
    left_out = f"{plural(left, 'label')} with the fewest rows are left out." if left else ""
    return Table(f"{plural(len(rows), 'label')} on the {part} part.", columns, cells, left_out)


def baselines(record: RunRecord) -> tuple[Chart, Table] | None:
    """The model beside simpler ones."""
    found = record.summary.get("baselines")
    metric, summary = record.main_metric, record.summary
    if not isinstance(found, Mapping) or not found:
        return None
    part = next(
        (
            part
            for part in PARTS
            if any(number_at(found, n, "metrics", part, metric) is not None for n in found)
        ),
        None,
    )
    if part is None:
        return None
    rows = [_bar("this model", summary, part, metric, own=True)]
    rows += [
        _bar(BASELINES.get(name, name.replace("_", " ")), found[name], part, metric, own=False)
        for name in found
    ]
    rows = sorted((row for row in rows if row["value"] is not None), key=lambda row: -row["value"])
    simple = [row for row in rows if not row["own"]]
    own = next((row for row in rows if row["own"]), None)
    sentence = f"The best simple model, {simple[0]['name']}, has {score(simple[0]['value'])}"
    if own is not None:
        sentence += f"; this model has {score(own['value'])}"
    sentence = f"{metric_title(metric)[0].upper()}{metric_title(metric)[1:]} on the {part} part. {sentence}."
    if any("low" in row for row in rows):
        sentence += " The thin lines are 95 % intervals."
    return (
        Chart("baselines", "", sentence, bar_chart(rows, sentence=sentence, x=metric_title(metric))),
        _baselines_table(record, rows, part),
    )


def _bar(name: str, told: Mapping[str, Any], part: str, metric: str, *, own: bool) -> dict[str, Any]:
    bar: dict[str, Any] = {"name": name, "value": number_at(told, "metrics", part, metric), "own": own}
    bounds = bounds_at(told, "intervals", part, metric)
    spent = number_at(told, "seconds", "train") if own else number_at(told, "seconds")
    return (
        bar
        | ({"low": bounds[0], "high": bounds[1]} if bounds else {})
        | {
            "seconds": None if spent is None else round(spent, 1),
            "note": "" if own else str(told.get("note") or ""),
        }
    )


def _baselines_table(record: RunRecord, rows: Sequence[Mapping[str, Any]], part: str) -> Table:
    columns = [
        Column("Model"),
        Column(metric_title(record.main_metric), "score"),
        Column("95 % interval", "interval"),
        Column("Seconds", "number"),
    ]
    cells = [
        [row["name"], row["value"], _pair(row.get("low"), row.get("high")), row["seconds"]] for row in rows
    ]
    if any(row["note"] for row in rows):
        columns.append(Column("Note"))
        cells = [[*cell, row["note"] or None] for cell, row in zip(cells, rows, strict=True)]
    return Table(f"Simple models and this one on the {part} part.", columns, cells)


def verdicts(record: RunRecord) -> list[dict[str, Any]]:
    """The diagnosis: each question with its verdict, its sentence and what was said to do."""
    words = {"good": "Good", "look": "Look", "bad": "Bad"}
    return [
        {
            "step": str(verdict.get("step", "")),
            "question": str(verdict.get("question") or verdict.get("step") or ""),
            "kind": str(verdict.get("verdict", "unknown")),
            "word": words.get(str(verdict.get("verdict")), "Unknown"),
            "sentence": str(verdict.get("sentence", "")),
            "advice": [str(line) for line in verdict.get("advice") or ()],
        }
        for verdict in record.verdicts
    ]


def advice(record: RunRecord) -> list[dict[str, Any]]:
    """What to try next, under the evidence that suggests it."""
    kinds = {told["step"]: told for told in verdicts(record)}
    reasons: dict[str, dict[str, Any]] = {}
    for piece in record.advice:
        why, told = str(piece.get("why") or ""), kinds.get(str(piece.get("step")))
        reason = reasons.setdefault(
            why,
            {
                "why": why,
                "kind": told["kind"] if told else "",
                "word": told["word"] if told else "",
                "pieces": [],
            },
        )
        reason["pieces"].append({key: str(piece.get(key) or "") for key in ("title", "config", "command")})
    return list(reasons.values())


def environment(record: RunRecord) -> list[tuple[str, str]]:
    """Versions, hardware, commit, command and seed as pairs of name and value."""
    told, found = record.environment, []
    hardware = told.get("hardware")
    if isinstance(hardware, Mapping):
        found += [(str(key), str(value)) for key, value in hardware.items() if value]
    versions = told.get("versions")
    if isinstance(versions, Mapping):
        found += [(str(name), str(value)) for name, value in versions.items() if value]
    if told.get("git"):
        found.append(("git commit", str(told["git"])))
    command = told.get("command")
    if isinstance(command, Sequence) and not isinstance(command, str):
        found.append(("command", " ".join(map(str, command))))
    if told.get("seed") is not None:
        found.append(("seed", str(told["seed"])))
    return found

"""The report of a run as one HTML page."""

from __future__ import annotations

from typing import Any

from etude.report import curves, decisions, mistakes, sections
from etude.report.columns import columns_table, fitted_over
from etude.report.page import Spec, excerpt, render_page
from etude.report.record import Limits, RunRecord

LARGEST = 3_000_000
"""Bytes of a page; one that gets larger is made again with less on it."""
TRIES = 4


def render_report(record: RunRecord) -> str:
    """Return the page, under 3 MB whatever the run holds."""
    limits = Limits()
    for _ in range(TRIES):
        page = _render(record, limits)
        if len(page.encode("utf-8", "replace")) < LARGEST:
            return page
        limits = limits.tighter()
    return page


def _render(record: RunRecord, limits: Limits) -> str:
    charts: dict[str, Spec] = {}

    def placed(chart: curves.Chart | None) -> curves.Chart | None:
        if chart is not None:
            charts[chart.name] = chart.spec
        return chart

    compared = sections.baselines(record)
    context: dict[str, Any] = {
        "lead": sections.lead(record),
        "headline": sections.headline(record),
        "metrics": sections.metrics_table(record),
        "meanings": sections.meanings(record),
        "gain": sections.gain_table(record),
        "decision": sections.decision_in_words(record),
        "kept": sections.kept_weights(record),
        "verdicts": sections.verdicts(record),
        "advice": sections.advice(record),
        "learning": [placed(chart) for chart in curves.learning_charts(record)],
        "columns": columns_table(record),
        "fitted_over": fitted_over(record),
        "row_losses": placed(curves.row_losses_chart(record)),
        "never_learned": mistakes.never_learned(record, limits),
        "per_class": sections.per_class_table(record, limits),
        "confusion": placed(mistakes.confusion_chart(record, limits)),
        "pairs": mistakes.pairs_table(record, limits),
        "thresholds": placed(decisions.thresholds(record, limits)),
        "reliability": placed(decisions.reliability(record)),
        "calibration": decisions.calibration_table(record),
        "failures": mistakes.failure_tables(record, limits),
        "baselines": None if compared is None else (placed(compared[0]), compared[1]),
        "plan": excerpt(record.plan, limits.source),
        "config": excerpt(record.config, limits.source),
        "environment": sections.environment(record),
    }
    return render_page("report.html", title=record.name, charts=charts, record=record, **context)

"""The command ``baseline``: what simple models reach on a config's data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from etude.cli.base import (
    ConfigFile,
    Json,
    Overrides,
    Quiet,
    command,
    make_console,
    make_reporter,
    read_config,
    say,
)
from etude.results import to_json

if TYPE_CHECKING:
    from rich.table import Table

    from etude.runs.baseline import BaselineScores


@command
def baseline(
    config: ConfigFile,
    overrides: Overrides = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this baseline; may be given several times."),
    ] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Score simple models on the data of a config.

    The zero rule, logistic regression on TF-IDF and on the untouched backbone's features, and
    gradient-boosted trees where there are numeric columns. They are decided as the run would be,
    and scored on its validation part, and once on its test part.

    Example: etude baseline etude.toml --only zero_rule --only tfidf_logistic
    """
    resolved = read_config(config, overrides)
    from etude.runs import baseline as job

    found = job.baseline(resolved, only=only, reporter=make_reporter(quiet, json))
    if json:
        say(to_json({name: scores.to_json() for name, scores in found.items()}))
        return
    make_console().print(_table(found))
    for name, scores in found.items():
        if scores.note:
            say(f"{name}: {scores.note}")


def _table(found: Mapping[str, BaselineScores]) -> Table:
    """One row for each baseline, and for each part its headline metrics with their intervals."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("baseline")
    columns = _columns(found)
    for part, metric in columns:
        table.add_column(f"{part} {metric}", justify="right")
    table.add_column("rows", justify="right")
    table.add_column("seconds", justify="right")
    for name, scores in found.items():
        cells = [_cell(scores, part, metric) for part, metric in columns]
        table.add_row(name, *cells, f"{scores.rows:,}", f"{scores.seconds:.1f}")
    return table


HEADLINE = ("accuracy", "f1_macro", "in_scope_accuracy", "oos_recall")


def _columns(found: Mapping[str, BaselineScores]) -> list[tuple[str, str]]:
    """Every part with the headline metrics that some baseline has there."""
    parts = dict.fromkeys(part for scores in found.values() for part in scores.metrics)
    return [
        (part, metric)
        for part in parts
        for metric in HEADLINE
        if any(metric in scores.metrics.get(part, {}) for scores in found.values())
    ]


def _cell(scores: BaselineScores, part: str, metric: str) -> str:
    value = scores.metrics.get(part, {}).get(metric)
    if value is None:
        return "-"
    interval = scores.intervals.get(part, {}).get(metric)
    return f"{value:.4f}" + (f" [{interval[0]:.4f}, {interval[1]:.4f}]" if interval else "")

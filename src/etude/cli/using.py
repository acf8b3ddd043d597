"""Commands that use a trained model: ``evaluate`` and ``predict``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from etude.cli.base import (
    Json,
    Quiet,
    RunOrModel,
    command,
    complain,
    make_reporter,
    say,
)
from etude.results import scores_table, to_json


@command
def evaluate(
    run_or_model: RunOrModel,
    data: Annotated[
        str | None, typer.Argument(metavar="DATA", help="A labelled file; the run's test part if absent.")
    ] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Score a trained model on labelled data.

    Example: etude evaluate runs/latest held_out.csv
    """
    from etude import api

    found = api.evaluate(run_or_model, data, reporter=make_reporter(quiet, json))
    if json:
        say(to_json({**found.scores, "intervals": found.intervals, "rows": found.rows}))
        return
    part = Path(data).name if data else "test"
    say(scores_table({part: found.scores}, {part: found.intervals}))
    if found.intervals:
        say(f"\n{found.rows:,} rows; intervals are 2.5 to 97.5 % of a bootstrap over them")


@command
def predict(
    run_or_model: RunOrModel,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="csv, tsv, jsonl, json or parquet; - is standard input.")
    ] = "-",
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="csv, tsv, jsonl or parquet; standard output if absent."),
    ] = None,
    text: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The text's column; the trained one if absent.")
    ] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Predict labels with their probabilities.

    Rows keep their order and their own columns.

    Example: etude predict runs/latest messages.csv --output labels.csv

    Example: echo "where is my parcel?" | etude predict runs/latest
    """
    from etude import api

    # Rows that scroll through a terminal and a bar beneath them would garble each other.
    reporter = make_reporter(quiet or (output is None and sys.stdout.isatty()), json)
    if file == "-" and sys.stdin.isatty():
        complain("reading texts from the keyboard, one a line; Ctrl-D ends")
    rows = api.load(run_or_model).predict_file(file, output, text=text, reporter=reporter)
    if output is not None and json:
        say(to_json({"rows": rows, "output": output}))
    elif output is not None:
        say(f"{rows:,} rows in {output}")

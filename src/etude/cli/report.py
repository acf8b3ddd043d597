"""The command that writes a run's page: ``report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from etude.cli.base import command, say


@command
def report(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The folder of a run.", show_default=False)],
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Where the page goes; into the run's folder if absent."
        ),
    ] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
) -> None:
    """Write a run's report: one HTML page that opens offline.

    A run that was stopped half-way is reported as far as it came.

    Example: etude report runs/latest --open
    """
    from etude.runs.report import write_report

    page = write_report(Path(run), output=None if output is None else Path(output))
    say(f"report in {page} ({page.stat().st_size / 1e6:.1f} MB)")
    if open_page:
        typer.launch(page.resolve().as_uri())

"""The command ``study``: which techniques help on these data, by how much, at what cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from etude.cli.base import Json, Overrides, Quiet, command, make_console, make_reporter, say
from etude.results import to_json

if TYPE_CHECKING:
    from rich.table import Table


@command
def study(
    config: Annotated[
        str, typer.Argument(metavar="CONFIG", help="A run's TOML file with [study].", show_default=False)
    ],
    overrides: Overrides = None,
    directory: Annotated[
        str | None, typer.Option("--dir", metavar="FOLDER", help="The study's folder; study.dir if absent.")
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Time for all runs, as 30m or 2h; study.budget if absent."),
    ] = None,
    test: Annotated[
        bool, typer.Option("--test", help="When every run is done, score the test part of all of them.")
    ] = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Compare variants of a run on the same seeds, and say what helped.

    Runs that are done are found again, so that a study that was stopped goes on with the same command.

    Example: etude study etude.toml --set study.seeds=5

    Example: etude study study.toml --budget 2h --test
    """
    from etude.config.study import read_study

    changes = [*(overrides or ()), *([f"study.budget='{budget}'"] if budget is not None else [])]
    read_study(config, changes)  # what is wrong with it is said before torch is loaded
    from etude import api

    folder = None if directory is None else Path(directory)
    found = api.study(
        config, overrides=changes, folder=folder, test=test, reporter=make_reporter(quiet, json)
    )
    content = found.to_json()
    if json:
        say(to_json(content))
        return
    from etude.report.study import lead

    say(f"{lead(content)}\n")
    make_console().print(_table(content["findings"], f"{found.metric}, validation"))
    if content["test"] is not None:
        say("")
        make_console().print(_table(content["test"]["findings"], f"{found.metric}, test"))
    for note in found.notes:
        say(f"\n{note}")
    if found.running:
        say(f"\n{found.running} runs are being trained by another process; run this again for all")
    say(f"\nexplained in {found.folder / 'study.html'}, and as Markdown in {found.folder / 'study.md'}")


def _table(findings: list[dict[str, Any]], title: str) -> Table:
    from rich.table import Table

    from etude.report.study import HEADS, cells

    table = Table(box=None, pad_edge=False, header_style="", title_justify="left")
    table.add_column(title, no_wrap=True)
    table.add_column(HEADS[1], no_wrap=True)
    for head in HEADS[2:]:
        table.add_column(head, justify="right", no_wrap=True)
    for found in findings:
        table.add_row(*cells(found))
    return table

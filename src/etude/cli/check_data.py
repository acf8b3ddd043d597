"""The command ``check-data``: what is wrong with data, before any training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from etude.cli.base import Json, Overrides, Quiet, command, make_console, make_reporter, say
from etude.results import to_json

if TYPE_CHECKING:
    from rich.console import Console

    from etude.data.verdicts import Checkup, Section

MOST_FAULTS = 10
"""Faults that the terminal lists; the page and the JSON have all."""

_SIGNS = {"safe": ("✓", "green"), "look": ("!", "yellow"), "unsafe": ("✗", "red")}


@command
def check_data(
    source: Annotated[
        str,
        typer.Argument(
            metavar="CONFIG_OR_FILE", help="A run's TOML file, or a data file.", show_default=False
        ),
    ],
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="PAGE", help="Write a page, as check-data.html.")
    ] = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Also measure how much of a score is chance, with cheap models.")
    ] = False,
    correlate_with: Annotated[
        str | None,
        typer.Option(
            "--correlate-with",
            metavar="FILE",
            help="Labelled test rows that may be looked at: does validation rank models as they do?",
        ),
    ] = None,
    overrides: Overrides = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Check data before any training.

    Every row that cannot be used is listed. Leaves with exit code 1 where something is unsafe. The test
    part of a config stays locked: its labels are looked at only to see whether they can be used.

    Example: etude check-data etude.toml --output check-data.html

    Example: etude check-data messages.csv --deep
    """
    from etude.runs import check_data as checks

    if output is not None:
        checks.refuse_no_page(output)
    checkup = checks.check_data(
        source,
        overrides=overrides or (),
        deep=deep,
        correlate_with=correlate_with,
        reporter=make_reporter(quiet, json),
    )
    if output is not None:
        checks.write_page(checkup, output)
    if json:
        say(to_json(checkup.to_json() | ({} if output is None else {"output": output})))
    else:
        _print(checkup, make_console())
        hint = (
            f"the page: {output}"
            if output
            else f"a page with the figures: etude check-data {source} --output check-data.html"
        )
        say(f"\n{hint}")
    if checkup.exit_code:
        raise typer.Exit(checkup.exit_code)


def _print(checkup: Checkup, console: Console) -> None:
    """The verdict, a line on the data, and what each section says, the safe ones in short."""
    from rich.text import Text

    rows = ", ".join(f"{part} {count:,}" for part, count in checkup.rows.items())
    task = f"{checkup.task}, {len(checkup.labels)} labels; " if checkup.task else ""
    console.print(Text(checkup.sentence, style=f"bold {_SIGNS[checkup.verdict][1]}"))
    console.print(Text(f"{task}rows: {rows}\n", style="dim"))
    for section in checkup.sections:
        _print_section(section, console)


def _print_section(section: Section, console: Console) -> None:
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(width=10)
    table.add_column()
    for number, remark in enumerate(section.worst_first):
        sign, colour = _SIGNS[remark.verdict]
        text = Text.assemble((f"{sign} ", colour), remark.sentence)
        if remark.advice:
            text.append(f" {remark.advice}", style="dim")
        table.add_row(Text(section.name if number == 0 else "", style="bold"), text)
    for note in section.notes:
        table.add_row("", Text(note, style="dim"))
    console.print(table)
    for line in _faults(section):
        console.print(Padding(Text(line), (0, 0, 0, 14)))


def _faults(section: Section) -> list[str]:
    faults = [fault["sentence"] for fault in section.evidence.get("faults", [])]
    more = len(faults) - MOST_FAULTS
    return [*faults[:MOST_FAULTS], *([f"... and {more:,} more, which --json lists"] if more > 0 else [])]

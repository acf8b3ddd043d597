"""The command ``compare``: two runs or more on the same rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from etude.cli.base import Json, command, make_console, say
from etude.results import to_json

if TYPE_CHECKING:
    from rich.table import Table

    from etude.runs.compare import Comparison


@command
def compare(
    run_a: Annotated[str, typer.Argument(metavar="RUN_A", help="The folder of a run.", show_default=False)],
    run_b: Annotated[
        str,
        typer.Argument(metavar="RUN_B", help="The folder of another, on the same rows.", show_default=False),
    ],
    more: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN_C ...]", help="Further runs; all are compared with the first.", show_default=False
        ),
    ] = None,
    part: Annotated[str, typer.Option(metavar="PART", help="The part to compare on.")] = "test",
    json: Json = False,
) -> None:
    """Say whether one run is better than another.

    Both are scored on the same rows, so that the luck of these rows counts for both alike: intervals are
    those of the difference, by paired bootstrap, and McNemar's test counts rows that one run alone has right.

    With three runs or more, a table ranks them and compares each with the first; p counts that many tests
    were made (Holm's method).

    Example: etude compare runs/plain runs/with_sam
    """
    from etude.runs.compare import compare

    if more:
        _rank([run_a, run_b, *more], part, json)
        return
    found = compare(Path(run_a), Path(run_b), part)
    if json:
        say(to_json(found.to_json()))
        return
    say(f"A  {found.a}\nB  {found.b}\n")
    make_console().print(_table(found))
    test = found.mcnemar
    p = _p(test.p) if test.p < 0.001 else f"= {_p(test.p)}"
    say(f"\nall labels right: in A alone {test.only_a:,} rows, in B alone {test.only_b:,} (McNemar's p {p})")
    say(f"\n{found.verdict}")


def _rank(runs: list[str], part: str, json: bool) -> None:
    from rich.table import Table

    from etude.runs.ranking import rank

    found = rank([Path(run) for run in runs], part)
    if json:
        say(to_json(found.to_json()))
        return
    table = Table(box=None, pad_edge=False, header_style="", title_justify="left")
    say(f"{found.part}, {found.rows:,} rows; all compared with {found.first}\n")
    table.add_column("run", overflow="fold")
    for head in (found.metric, "95 % interval", "difference", "95 % interval", "p (Holm)"):
        table.add_column(head, justify="right", no_wrap=True)
    for run in found.runs:
        cells = [run.run, f"{run.score:.4f}", f"{run.low:.4f} to {run.high:.4f}"]
        if run.difference is None or run.p is None:
            table.add_row(*cells, "", "", "")
            continue
        interval = f"{run.difference.low:+.4f} to {run.difference.high:+.4f}"
        table.add_row(*cells, f"{run.difference.difference:+.4f}", interval, _p(run.p))
    make_console().print(table)


def _table(found: Comparison) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="", title_justify="left")
    table.add_column(f"{found.part}, {found.rows:,} rows", no_wrap=True)
    for head in ("A", "B", "B - A", "95 % interval", "p"):
        table.add_column(head, justify="right", no_wrap=True)
    for name in dict.fromkeys([*found.scores_a, *found.scores_b]):
        values = [scores.get(name) for scores in (found.scores_a, found.scores_b)]
        cells = ["-" if value is None else f"{value:.4f}" for value in values]
        difference = found.differences.get(name)
        if difference is None:
            table.add_row(name, *cells, "-", "-", "-")
            continue
        interval = f"{difference.low:+.4f} to {difference.high:+.4f}"
        table.add_row(name, *cells, f"{difference.difference:+.4f}", interval, _p(difference.p))
    return table


def _p(p: float) -> str:
    """A probability with three decimals, which no test finds to be zero.

    >>> _p(0.0421), _p(0.0001)
    ('0.042', '< 0.001')
    """
    return "< 0.001" if p < 0.001 else f"{p:.3f}"

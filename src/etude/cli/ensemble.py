"""The commands ``ensemble`` and ``soup``: several trained models as one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from etude.cli.base import Json, Overrides, Quiet, command, make_console, make_reporter, read_config, say
from etude.errors import ConfigError
from etude.results import scores_table, to_json

if TYPE_CHECKING:
    from rich.table import Table

    from etude.ensemble.make import Made

Output = Annotated[
    str | None, typer.Option("--output", "-o", metavar="FOLDER", help="Where it goes, as a run's folder.")
]


@command
def ensemble(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUNS", help="Finished runs, or one config with data.folds.", show_default=False
        ),
    ],
    overrides: Overrides = None,
    output: Output = None,
    method: Annotated[
        str, typer.Option(metavar="NAME", help="What is joined: probabilities, logits, ranks or stacking.")
    ] = "probabilities",
    weights: Annotated[str, typer.Option(metavar="HOW", help="equal, or fitted to held-out rows.")] = "equal",
    snapshots: Annotated[
        bool,
        typer.Option("--snapshots", help="The members are the checkpoints of one run at its cycles' ends."),
    ] = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Make one model of several runs by averaging what they predict.

    A config with data.folds is trained once for each fold, and scored out of fold.

    Example: etude ensemble runs/seed0 runs/seed1 runs/focal --weights fitted -o runs/three

    Example: etude ensemble etude.toml --set data.folds=5

    Example: etude ensemble --snapshots runs/cycles -o runs/snapshots
    """
    if weights not in ("equal", "fitted"):
        raise ConfigError(f"--weights is {weights!r} and must be equal or fitted")
    reporter = make_reporter(quiet, json)
    config = len(runs) == 1 and runs[0].endswith(".toml")
    if overrides and not config:
        raise ConfigError("--set changes a config, and these are finished runs; leave it out")
    if config:
        if weights == "fitted" or snapshots:
            raise ConfigError(
                "--weights fitted and --snapshots are for finished runs, and this is a config; leave them out"
            )
        resolved = read_config(runs[0], overrides)
        from etude.ensemble.folds import train_folds

        place = None if output is None else Path(output)
        _print(train_folds(resolved, place, method=method, reporter=reporter), json)
        return
    if output is None:
        raise ConfigError("an ensemble of runs needs --output, its own folder")
    from etude import api

    made = api.ensemble(
        runs, output, method=method, fitted=weights == "fitted", snapshots=snapshots, reporter=reporter
    )
    _print(made, json)


@command
def soup(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUNS", help="Finished runs, or with --top a study.", show_default=False),
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FOLDER", help="Where it goes.", show_default=False)
    ],
    recipe: Annotated[
        str, typer.Option(metavar="NAME", help="greedy: keep what held-out rows like; or uniform: keep all.")
    ] = "greedy",
    top: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="The N best runs of a study, or trials of etude tune, that kept its models."
        ),
    ] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Make one model of several runs by averaging their weights.

    The runs must have begun with the same weights: one backbone, one seed.

    Example: etude soup runs/a runs/b runs/c -o runs/soup

    Example: etude soup runs/study --top 8 -o runs/soup
    """
    if top is not None and len(runs) != 1:
        raise ConfigError(f"--top takes the runs of one study, and {len(runs)} folders are named; name one")
    from etude import api

    made = api.soup(runs, output, recipe=recipe, top=top, reporter=make_reporter(quiet, json))
    _print(made, json)


def _print(made: Made, as_json: bool) -> None:
    if as_json:
        say(to_json(made.to_json()))
        return
    make_console().print(_table(made))
    say("")
    if made.scores:
        say(scores_table(made.scores, made.intervals))
    for note in made.notes:
        say(f"\n{note}")
    say(f"\nsaved in {made.folder}\n\nnext:\n  etude predict {made.folder} FILE --output labels.csv")


def _table(made: Made) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="", title_justify="left")
    table.add_column(f"members, {made.method}", no_wrap=True)
    table.add_column("weight", justify="right")
    table.add_column(f"{made.metric}, held out", justify="right")
    for member in made.members:
        weight, score = member.get("weight"), member.get("score")
        table.add_row(
            member["run"],
            "-" if weight is None else f"{weight:.3f}",
            "-" if score is None else f"{score:.4f}",
        )
    return table

"""Commands before training: ``init``, ``validate``, ``explain``, and the catalogue."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from etude.cli.base import (
    ConfigFile,
    Json,
    Overrides,
    command,
    make_console,
    make_reporter,
    read_config,
    refuse_existing,
    say,
)
from etude.errors import ConfigError
from etude.results import to_json


@command
def init(
    data: Annotated[
        str, typer.Argument(metavar="FILE", help="Training data, one example a row.", show_default=False)
    ],
    output: Annotated[str, typer.Option("--output", "-o", help="Where the config goes.")] = "etude.toml",
    test: Annotated[str | None, typer.Option("--test", metavar="FILE", help="Held-out test data.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the config if it exists.")] = False,
) -> None:
    """Look at a data file and write a config.

    The config explains each of its choices.

    Example: etude init messages.csv --output messages.toml
    """
    refuse_existing(output, force)
    from etude.data.inspect_tables import propose_config

    config = propose_config(data, test=test, run_dir=f"runs/{Path(data).stem}")
    try:
        Path(output).write_text(config, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"the config cannot be written to '{output}': {error.strerror}") from error
    say(f"wrote {output}\n\nnext: read it, then\n  etude train {output}")


@command
def validate(config: ConfigFile, overrides: Overrides = None, json: Json = False) -> None:
    """Check a config and its data, without training.

    Example: etude validate etude.toml
    """
    resolved = read_config(config, overrides)
    from etude import api

    # The reporter has shown the warnings by the time they come back.
    warnings = api.validate(resolved, reporter=make_reporter(False, json))
    if json:
        say(to_json({"valid": True, "warnings": warnings}))
    else:
        say(f"{config} is valid" + (f", with {len(warnings)} to look at" if warnings else ""))


@command
def explain(config: ConfigFile, overrides: Overrides = None, json: Json = False) -> None:
    """Show what a run would do and cost.

    The techniques are listed in the order in which they act.

    Example: etude explain etude.toml --set techniques.sam.rho=0.05
    """
    resolved = read_config(config, overrides)
    from etude import api

    explanation = api.explain(resolved, reporter=make_reporter(False, json))
    if json:
        say(to_json(explanation.data))
    else:
        say(explanation.text)


@command
def techniques(
    family: Annotated[str | None, typer.Option(metavar="FAMILY", help="Only this family.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Write the list as JSON.")] = False,
) -> None:
    """List the techniques that a config can switch on.

    Example: etude techniques --family losses
    """
    from etude import listing

    rows = listing.list_techniques(family)
    if json:
        say(to_json(rows))
    else:
        make_console().print(listing.technique_table(rows))


@command
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A technique's name.", show_default=False)],
    file: Annotated[
        str | None,
        typer.Argument(metavar="FILE", help="With --plot: draw into this .png, .svg or .pdf instead."),
    ] = None,
    plot: Annotated[bool, typer.Option("--plot", help="Draw its learning rate over a run.")] = False,
    overrides: Overrides = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of the drawn run (10).")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of the drawn run (100 an epoch).")] = None,
) -> None:
    """Show a technique's card and settings, or draw its learning rate.

    The card has the idea, the formula, the paper, and when it helps.

    Example: etude show label_smoothing

    Example: etude show one_cycle --plot --set pct_start=0.3 --epochs 5

    Example: etude show one_cycle --plot one_cycle.png
    """
    console = make_console()
    if plot:
        from etude import plots

        n_epochs = 10 if epochs is None else epochs
        n_steps = 100 * n_epochs if steps is None else steps
        curves = plots.schedule_curves(name, overrides or (), n_epochs=n_epochs, n_steps=n_steps)
        if file is None:
            console.print(plots.draw(curves, braille=console.encoding.startswith("utf")), soft_wrap=True)
        else:
            plots.save(curves, file)
            say(f"drawn in {file}")
        return
    if not all(given is None for given in (file, overrides, epochs, steps)):
        raise ConfigError("FILE, --set, --epochs and --steps say what is drawn, and need --plot")
    from etude import listing

    console.print(listing.card(name), soft_wrap=True)
    console.print(listing.settings_table(name))

"""Commands that look for a setting before the training: ``find-lr`` and ``find-batch-size``."""

from __future__ import annotations

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
from etude.errors import ConfigError
from etude.results import to_json

if TYPE_CHECKING:
    from etude.search.lr_finder import FoundRate

Apply = Annotated[bool, typer.Option("--apply", help="Write the advice into the config file.")]


@command
def find_lr(
    config: ConfigFile,
    overrides: Overrides = None,
    steps: Annotated[int, typer.Option(metavar="N", help="Optimizer steps of the sweep.")] = 100,
    low: Annotated[float, typer.Option(metavar="LR", help="Where the sweep begins.")] = 1e-7,
    high: Annotated[float, typer.Option(metavar="LR", help="Where it ends at the latest.")] = 10.0,
    stage: Annotated[int, typer.Option(metavar="K", help="The stage of a gradual unfreezing, from 1.")] = 1,
    choose: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="What counts: between, steepest, minimum/10 or valley; best trains with each of them.",
        ),
    ] = "between",
    plot: Annotated[
        str | None, typer.Option(metavar="FILE", help="A .png, .svg or .pdf file, or 'terminal'.")
    ] = None,
    apply: Apply = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Find a learning rate for a run.

    A hundred steps of the run are taken while the learning rate rises, with all of its techniques; then
    it is put back as it was. Practitioners choose between the steepest point of the curve and a tenth of
    the rate with the lowest loss; the middle of the two is the suggestion. Where a model overfits, only
    trainings tell: --choose best compares the rates by their validation loss.

    Example: etude find-lr etude.toml --plot terminal

    Example: etude find-lr etude.toml --choose best

    Example: etude find-lr etude.toml --plot lr.png --apply
    """
    resolved = read_config(config, overrides)
    from etude import api, plots

    if plot is not None and plot != "terminal":
        plots.refuse_no_picture(plot)
    if apply and stage != 1:
        raise ConfigError(
            "--apply writes optimizer.lr, the rate of the first stage; leave --stage out, or paste that of a "
            "later stage as its factor"
        )
    found = api.find_lr(
        resolved,
        low=low,
        high=high,
        steps=steps,
        stage=stage,
        choose=choose,
        reporter=make_reporter(quiet, json),
    )
    if plot is not None and plot != "terminal":
        plots.save_sweep(found, plot)
    if apply:
        from etude.config.edit import apply_settings

        apply_settings(config, {"optimizer": {"name": found.optimizer, "lr": found.suggestion}})
    if json:
        say(to_json(found.to_json()))
        return
    if plot == "terminal":
        console = make_console()
        braille = console.encoding.startswith("utf")
        console.print(plots.draw_sweep(found, braille=braille), soft_wrap=True)
    say(_in_words(found))
    if plot is not None and plot != "terminal":
        say(f"\ndrawn in {plot}")
    say(f"\nwritten into {config}" if apply else f"\npaste it, or: etude find-lr {config} --apply")


@command
def find_batch_size(
    config: ConfigFile,
    overrides: Overrides = None,
    memory: Annotated[
        str | None, typer.Option(metavar="SIZE", help="What the run may hold, as 4GiB.")
    ] = None,
    most: Annotated[int, typer.Option(metavar="ROWS", help="The largest micro-batch to look for.")] = 1024,
    apply: Apply = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Find the batch size of a run, and how many rows fit.

    The batch size is the gradient's noise scale after a few steps; the micro-batch is the largest whose step
    fits in memory, with the longest rows of the data. Nothing of the run is changed.

    Example: etude find-batch-size etude.toml --memory 4GiB --apply
    """
    resolved = read_config(config, overrides)
    from etude import api

    found = api.find_batch_size(resolved, memory=memory, most=most, reporter=make_reporter(quiet, json))
    if apply:
        from etude.config.edit import apply_settings

        sizes = {"batch_size": found.batch_size, "micro_batch_size": found.micro_batch_size}
        apply_settings(config, {"train": sizes})
    if json:
        say(to_json(found.to_json()))
        return
    say("\n".join(found.sentences()) + f"\n\n{found.toml().rstrip()}")
    say(f"\nwritten into {config}" if apply else f"\npaste it, or: etude find-batch-size {config} --apply")


def _in_words(found: FoundRate) -> str:
    """Every suggestion, the chosen one marked, and the table to paste."""
    width = max(map(len, found.suggestions))
    lines = []
    for name, rate in found.suggestions.items():
        mark = "  <- chosen" if name == found.chosen else ""
        lines.append(f"{name:{width}}  {rate:<8.2g}{_loss(found, name)}{mark}".rstrip())
    lines.append(f"{'config':{width}}  {found.lr:.2g}")
    return "\n".join([*lines, "", found.toml().rstrip()])


def _loss(found: FoundRate, name: str) -> str:
    return f"  validation loss {found.tried[name]:.4f}" if name in found.tried else ""

"""The command ``retrain``: a run again, with the epochs of its best score or the settings of a study."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from etude.cli.base import Json, Overrides, Quiet, command, make_reporter, print_result, say
from etude.errors import ConfigError
from etude.results import to_json

if TYPE_CHECKING:
    from etude.runs.retrain import Retrained


@command
def retrain(
    epochs_from: Annotated[
        str | None,
        typer.Option(
            "--epochs-from",
            metavar="RUN",
            help="The finished run whose best epoch counts.",
            show_default=False,
        ),
    ] = None,
    best: Annotated[
        str | None,
        typer.Option(
            "--best",
            metavar="STUDY",
            help="The folder of etude tune whose winner is trained.",
            show_default=False,
        ),
    ] = None,
    on_all_data: Annotated[
        bool, typer.Option("--on-all-data", help="With --best: train on the validation rows too.")
    ] = False,
    directory: Annotated[
        str | None,
        typer.Option(
            "--dir", metavar="FOLDER", help="The new run's folder; RUN-Nep or STUDY/best if absent."
        ),
    ] = None,
    overrides: Overrides = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Train a run again with the epochs of its best score, or the winner of a study.

    The schedule of the first then ends where the validation score was best, which stopping early does not
    give.

    Example: etude retrain --epochs-from runs/latest

    Example: etude retrain --best runs/tuning --on-all-data
    """
    if (epochs_from is None) == (best is None):
        raise ConfigError("retrain takes either --epochs-from RUN or --best STUDY; give one of the two")
    if on_all_data and best is None:
        raise ConfigError("--on-all-data goes with --best STUDY; give both")
    reporter = make_reporter(quiet, json)
    if best is not None:
        from etude import api

        result = api.retrain_best(
            best,
            on_all_data=on_all_data,
            directory=directory,
            overrides=overrides or (),
            reporter=reporter,
        )
        print_result(result, json)
        return
    from etude.runs.retrain import retrain

    found = retrain(Path(str(epochs_from)), directory=directory, overrides=overrides or (), reporter=reporter)
    say(to_json(found.to_json()) if json else _in_words(found))


def _in_words(found: Retrained) -> str:
    width = max(len(str(found.old)), len(str(found.new)))
    lines = [
        f"{'':{width}}  epochs  {found.metric} (validation)",
        f"{found.old!s:{width}}  {found.old_epochs:6}  {found.before:.4f}",
        f"{found.new!s:{width}}  {found.peak.epochs:6}  {found.after:.4f}",
        "",
    ]
    if found.change is None:
        lines.append("the two runs have other validation rows, so that the difference may be chance")
    else:
        low, high = found.change.low, found.change.high
        beyond = "beyond the noise" if found.beyond_noise else "within the noise"
        lines.append(f"difference {found.change.value:+.4f} ({low:+.4f} to {high:+.4f}), {beyond}")
    return "\n".join(lines)

"""The command ``health``: what the spectra of a model's weights say of its training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from etude.cli.base import Json, Quiet, RunOrModel, command, make_console, make_reporter, say
from etude.results import to_json

if TYPE_CHECKING:
    from rich.table import Table

    from etude.runs.health import Health


@command
def health(run: RunOrModel, quiet: Quiet = False, json: Json = False) -> None:
    """Judge a model's layers by the spectra of their weights.

    No data are needed: the eigenvalues of a well-trained layer have a heavy tail, whose exponent alpha lies
    between 2 and 6 (Martin et al. 2020, arXiv 2002.06716).

    Example: etude health runs/latest
    """
    from etude.runs.health import health

    found = health(Path(run), reporter=make_reporter(quiet, json))
    if json:
        say(to_json(found.to_json()))
        return
    if found.spectra:
        make_console().print(_table(found))
        say("")
    say(found.reading)


def _table(found: Health) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("layer")
    for head in ("shape", "alpha", "weighted", "log norm", "log spectral", "stable rank"):
        table.add_column(head, justify="right")
    table.add_column("")
    for s in found.spectra:
        shape = " x ".join(map(str, s.shape))
        values = (s.alpha, s.alpha_weighted, s.log_norm, s.log_spectral_norm, s.stable_rank)
        table.add_row(
            s.name, shape, *(f"{value:.2f}" for value in values), "" if s.verdict == "good" else s.verdict
        )
    means = found.means
    table.add_row("mean", "", *(f"{value:.2f}" for value in means.values()), "", end_section=True)
    return table

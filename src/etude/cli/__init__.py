"""The command line: it parses, calls the façade and prints; nothing is decided here."""

from __future__ import annotations

from etude.cli import (
    baseline,
    check_data,
    compare,
    ensemble,
    finders,
    health,
    interpret,
    planning,
    pretrain,
    report,
    retrain,
    self_train,
    study,
    training,
    tune,
    using,
)
from etude.cli.base import app

COMMANDS = (
    planning, check_data, baseline, finders, pretrain, training, self_train, study, tune, ensemble, retrain,
    using, compare, report, health, interpret,
)  # fmt: skip
"""The modules whose commands there are; importing them registers these."""

ORDER = (
    "demo", "init", "check-data", "baseline", "validate", "explain", "find-lr", "find-batch-size", "pretrain",
    "train", "resume", "self-train", "study", "tune", "ensemble", "soup", "retrain", "evaluate", "predict",
    "compare", "report", "health", "interpret", "techniques", "show",
)  # fmt: skip
"""The order in which ``etude --help`` lists the commands: that of a project."""

app.registered_commands.sort(key=lambda known: ORDER.index(known.name or ""))


def main(argv: list[str] | None = None) -> None:
    """Run the command line; leaves by ``SystemExit``.

    Args:
        argv: the arguments; those of the process if absent.
    """
    app(args=argv, prog_name="etude")

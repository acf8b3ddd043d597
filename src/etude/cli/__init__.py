"""The command line: it parses, calls the façade and prints; nothing is decided here."""

from __future__ import annotations

from etude.cli import planning, training, using
from etude.cli.base import app

COMMANDS = (training, using, planning)
"""The modules whose commands ``etude --help`` lists, in this order."""


def main(argv: list[str] | None = None) -> None:
    """Run the command line; leaves by ``SystemExit``.

    Args:
        argv: the arguments; those of the process if absent.
    """
    app(args=argv, prog_name="etude")

"""What all commands share: the application, their common options, and how they leave.

Results go to standard output, everything else to standard error. The façade is imported inside the
commands, so that ``etude --help`` and a mistake in a config are answered without loading torch.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ParamSpec

import typer

from etude.errors import ConfigError, EtudeError, Interrupted
from etude.results import scores_table, stages_table, to_json

if TYPE_CHECKING:
    from rich.console import Console

    from etude.api import Result
    from etude.config.run import Config
    from etude.core.observe import Reporter

P = ParamSpec("P")

USER_ERROR = 2
INTERRUPTED = 130
BROKEN_PIPE = 1

app = typer.Typer(
    name="etude",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

ConfigFile = Annotated[str, typer.Argument(metavar="CONFIG", help="The run's TOML file.", show_default=False)]
RunOrModel = Annotated[
    str,
    typer.Argument(
        metavar="RUN_OR_MODEL", help="A run's folder, or the model's inside it.", show_default=False
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one setting; may be given several times."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show nothing but warnings and the result.")]
Json = Annotated[bool, typer.Option("--json", help="Write the result as JSON, and progress as JSON lines.")]


@contextmanager
def leaving_cleanly() -> Iterator[None]:
    """Turn what a user can cause into one line and an exit code; a traceback remains for faults of ours."""
    try:
        yield
        sys.stdout.flush()
    except Interrupted as error:
        complain(str(error))
        raise typer.Exit(INTERRUPTED) from None
    except EtudeError as error:
        complain(f"error: {error}")
        raise typer.Exit(USER_ERROR) from None
    except KeyboardInterrupt:
        complain("interrupted")
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        # The reader of a pipe has gone, as `head` does. Python would complain once more at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(BROKEN_PIPE) from None


def complain(message: str) -> None:
    """Write one line to standard error."""
    typer.echo(" ".join(message.split()), err=True)


def command(function: Callable[P, None]) -> Callable[P, None]:
    """Register a command of the function's name that leaves cleanly."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with leaving_cleanly():
            function(*args, **kwargs)

    return app.command(function.__name__.replace("_", "-"))(run)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"etude {version('etude')}")
        raise typer.Exit


@app.callback()
def _etude(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and leave."),
    ] = False,
) -> None:
    """Train classifiers well: every technique is a tested, composable part of one TOML file.

    Start with: etude demo, or with your own data: etude init data.csv
    """


def refuse_existing(output: str, force: bool) -> None:
    """Raise :class:`ConfigError` where a file would be overwritten that nobody said may be."""
    if Path(output).exists() and not force:
        raise ConfigError(
            f"'{output}' exists already; name another file with --output, or overwrite it with --force"
        )


def read_config(config: str | Path, overrides: list[str] | None) -> Config:
    """The config of a TOML file, with what the command line changes in it."""
    from etude.config.load import load_config

    return load_config(config, overrides or ())


def make_reporter(quiet: bool, json: bool) -> Reporter:
    """Who tells of progress on standard error: bars, plain lines, JSON lines or nobody."""
    from etude.runs.reporter import choose_reporter

    return choose_reporter(quiet=quiet, json=json)


def say(text: str) -> None:
    """Print a result, once where several processes train together."""
    if os.environ.get("RANK", "0") == "0":
        typer.echo(text)


def print_result(result: Result, as_json: bool) -> None:
    """Print a run's scores, where it was saved, and what to do next."""
    folder = result.folder
    if as_json:
        keys = {
            "scores": result.scores,
            "intervals": result.intervals,
            "seconds": result.seconds,
            "plan": result.plan,
        }
        stages = {"stages": list(result.stages)} if result.stages else {}
        say(to_json({"folder": str(folder), **keys, **stages}))
        return
    if result.stages:
        say(f"{stages_table(result.stages)}\n")
    say(scores_table(result.scores, result.intervals))
    say(f"\ntrained in {result.seconds:,.1f} s, saved in {folder}")
    if (folder / "report.html").exists():
        say(f"explained in {folder / 'report.html'}")
    say("\nnext:")
    say(f"  etude predict {folder} FILE --output labels.csv\n  etude evaluate {folder} FILE")


def make_console() -> Console:
    """A console over standard output; a pipe has no width of its own and gets a wide one."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 140, highlight=False)

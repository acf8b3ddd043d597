"""The command line: it parses, calls the façade and prints; nothing is decided here.

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
from etude.results import scores_table, to_json

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
def _leaving_cleanly() -> Iterator[None]:
    """Turn what a user can cause into one line and an exit code; a traceback remains for faults of ours."""
    try:
        yield
        sys.stdout.flush()
    except Interrupted as error:
        _complain(str(error))
        raise typer.Exit(INTERRUPTED) from None
    except EtudeError as error:
        _complain(f"error: {error}")
        raise typer.Exit(USER_ERROR) from None
    except KeyboardInterrupt:
        _complain("interrupted")
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        # The reader of a pipe has gone, as `head` does. Python would complain once more at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(BROKEN_PIPE) from None


def _complain(message: str) -> None:
    typer.echo(" ".join(message.split()), err=True)


def _command(function: Callable[P, None]) -> Callable[P, None]:
    """Register a command of the function's name that leaves cleanly."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with _leaving_cleanly():
            function(*args, **kwargs)

    return app.command()(run)


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


@_command
def train(config: ConfigFile, overrides: Overrides = None, quiet: Quiet = False, json: Json = False) -> None:
    """Train and score the run of a config file.

    Example: etude train etude.toml --set optimizer.lr=3e-5 --set train.epochs=3
    """
    resolved = _load(config, overrides)
    from etude import api

    _print_result(api.train(resolved, reporter=_reporter(quiet, json)), json)


@_command
def resume(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="The folder of a stopped run.", show_default=False)
    ],
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Go on with a stopped run.

    It ends with the same weights as if it had never stopped.

    Example: etude resume runs/latest
    """
    from etude import api

    _print_result(api.resume(run, reporter=_reporter(quiet, json)), json)


@_command
def evaluate(
    run_or_model: RunOrModel,
    data: Annotated[
        str | None, typer.Argument(metavar="DATA", help="A labelled file; the run's test part if absent.")
    ] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Score a trained model on labelled data.

    Example: etude evaluate runs/latest held_out.csv
    """
    from etude import api

    scores = api.evaluate(run_or_model, data, reporter=_reporter(quiet, json))
    if json:
        _print(to_json(scores))
    else:
        _print(scores_table({Path(data).name if data else "test": scores}))


@_command
def predict(
    run_or_model: RunOrModel,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="csv, tsv, jsonl, json or parquet; - is standard input.")
    ] = "-",
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="csv, tsv, jsonl or parquet; standard output if absent."),
    ] = None,
    text: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The text's column; the trained one if absent.")
    ] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Predict labels with their probabilities.

    Rows keep their order and their own columns.

    Example: etude predict runs/latest messages.csv --output labels.csv

    Example: echo "where is my parcel?" | etude predict runs/latest
    """
    from etude import api

    # Rows that scroll through a terminal and a bar beneath them would garble each other.
    reporter = _reporter(quiet or (output is None and sys.stdout.isatty()), json)
    if file == "-" and sys.stdin.isatty():
        _complain("reading texts from the keyboard, one a line; Ctrl-D ends")
    rows = api.load(run_or_model).predict_file(file, output, text=text, reporter=reporter)
    if output is not None and json:
        _print(to_json({"rows": rows, "output": output}))
    elif output is not None:
        _print(f"{rows:,} rows in {output}")


@_command
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
    _refuse_existing(output, force)
    from etude.data.inspect import inspect_file, render_config

    config = render_config(inspect_file(data), test=test, run_dir=f"runs/{Path(data).stem}")
    try:
        Path(output).write_text(config, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"the config cannot be written to '{output}': {error.strerror}") from error
    _print(f"wrote {output}\n\nnext: read it, then\n  etude train {output}")


def _refuse_existing(output: str, force: bool) -> None:
    if Path(output).exists() and not force:
        raise ConfigError(
            f"'{output}' exists already; name another file with --output, or overwrite it with --force"
        )


@_command
def validate(config: ConfigFile, overrides: Overrides = None, json: Json = False) -> None:
    """Check a config and its data, without training.

    Example: etude validate etude.toml
    """
    resolved = _load(config, overrides)
    from etude import api

    # The reporter has shown the warnings by the time they come back.
    warnings = api.validate(resolved, reporter=_reporter(False, json))
    if json:
        _print(to_json({"valid": True, "warnings": warnings}))
    else:
        _print(f"{config} is valid" + (f", with {len(warnings)} to look at" if warnings else ""))


@_command
def explain(config: ConfigFile, overrides: Overrides = None, json: Json = False) -> None:
    """Show what a run would do and cost.

    The techniques are listed in the order in which they act.

    Example: etude explain etude.toml --set techniques.sam.rho=0.05
    """
    resolved = _load(config, overrides)
    from etude import api

    explanation = api.explain(resolved, reporter=_reporter(False, json))
    if json:
        _print(to_json(explanation.data))
    else:
        _print(explanation.text)


@_command
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
        _print(to_json(rows))
    else:
        _console().print(listing.technique_table(rows))


@_command
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
    console = _console()
    if plot:
        from etude import plots

        n_epochs = 10 if epochs is None else epochs
        n_steps = 100 * n_epochs if steps is None else steps
        curves = plots.schedule_curves(name, overrides or (), n_epochs=n_epochs, n_steps=n_steps)
        if file is None:
            console.print(plots.draw(curves, braille=console.encoding.startswith("utf")), soft_wrap=True)
        else:
            plots.save(curves, file)
            _print(f"drawn in {file}")
        return
    if not all(given is None for given in (file, overrides, epochs, steps)):
        raise ConfigError("FILE, --set, --epochs and --steps say what is drawn, and need --plot")
    from etude import listing

    console.print(listing.card(name), soft_wrap=True)
    console.print(listing.settings_table(name))


@_command
def demo(quiet: Quiet = False, json: Json = False) -> None:
    """Train on messages to a shop, in a minute.

    The messages come with the package; at the end a few new ones are labelled.

    Example: etude demo
    """
    folder = Path(__file__).parent / "demo"
    data = [f"data.{part}='{folder / part}.jsonl'" for part in ("train", "test")]
    config = _load(folder / "demo.toml", [*data, f"run.dir='{_unused_folder('runs/demo')}'"])
    from etude import api

    result = api.train(config, reporter=_reporter(quiet, json))
    _print_result(result, json)
    if json:
        return
    texts = [
        "where is my parcel? it should have come on monday",
        "the pot arrived in three pieces",
        "I cannot log in any more",
    ]
    _print("\na few new messages:")
    for text, prediction in zip(texts, result.model.predict(texts), strict=True):
        label = prediction.label or "none"
        _print(f"  {label} ({prediction.probabilities.get(label, 0.0):.0%}): {text}")


def _unused_folder(first: str) -> str:
    """Return the name, or the name with the first number at which no folder exists."""
    folder, number = first, 1
    while Path(folder).exists():
        number += 1
        folder = f"{first}-{number}"
    return folder


def _load(config: str | Path, overrides: list[str] | None) -> Config:
    from etude.config.load import load_config

    return load_config(config, overrides or ())


def _reporter(quiet: bool, json: bool) -> Reporter:
    from etude.runs.reporter import choose_reporter

    return choose_reporter(quiet=quiet, json=json)


def _print(text: str) -> None:
    """Print a result, once where several processes train together."""
    if os.environ.get("RANK", "0") == "0":
        typer.echo(text)


def _print_result(result: Result, as_json: bool) -> None:
    folder = result.folder
    if as_json:
        keys = {"scores": result.scores, "seconds": result.seconds, "plan": result.plan}
        _print(to_json({"folder": str(folder), **keys}))
        return
    _print(scores_table(result.scores))
    _print(f"\ntrained in {result.seconds:,.1f} s, saved in {folder}\n\nnext:")
    _print(f"  etude predict {folder} FILE --output labels.csv\n  etude evaluate {folder} FILE")


def _console() -> Console:
    """A console over standard output; a pipe has no width of its own and gets a wide one."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 140, highlight=False)


def main(argv: list[str] | None = None) -> None:
    """Run the command line; leaves by ``SystemExit``.

    Args:
        argv: the arguments; those of the process if absent.
    """
    app(args=argv, prog_name="etude")

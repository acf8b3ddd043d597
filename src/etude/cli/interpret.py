"""The command ``interpret``: which words speak for a label, in colour or as signed bars."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from etude.cli.base import (
    Json,
    Quiet,
    RunOrModel,
    command,
    make_console,
    make_reporter,
    refuse_existing,
    say,
)
from etude.errors import ConfigError
from etude.results import to_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from etude.evaluation.attribution import Interpretation, Passage

MOST_BARS = 15
"""Words with a bar; the strongest are shown."""

WIDTH = 20
"""Characters of the longest bar."""


@command
def interpret(
    run_or_model: RunOrModel,
    text: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="A text; may be given several times.")
    ] = None,
    pair: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="The second text of each, for pairs.")
    ] = None,
    file: Annotated[
        str | None, typer.Option(metavar="FILE", help="Texts from a file with the trained columns.")
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="With --file: so many rows from its beginning.")] = 20,
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="What speaks for this label; the predicted ones if absent."),
    ] = None,
    method: Annotated[
        str, typer.Option(help="integrated_gradients, or gradient_x_input: faster and less exact.")
    ] = "integrated_gradients",
    steps: Annotated[int, typer.Option(help="Points on the way from the empty text.")] = 50,
    empty: Annotated[str, typer.Option(help="The empty text is made of: pad or mask.")] = "pad",
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="PAGE", help="Write an HTML page.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the page if it exists.")] = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Show which words speak for a label.

    Words for the label are blue, words against it orange; the numbers are log-odds.

    Example: etude interpret runs/latest --text "where is my parcel?" --output why.html
    """
    if (text is None) == (file is None):
        given = "nothing" if text is None else "both"
        raise ConfigError(f"texts come from --text or from --file, and {given} was given; give one of them")
    if output is not None:
        refuse_existing(output, force)
    from etude.runs import interpret as job

    question = job.Question(label or (), method, steps, empty)  # type: ignore[arg-type]  # it checks both words
    reporter = make_reporter(quiet, json)
    if file is not None:
        found = job.interpret_file(Path(run_or_model), file, question, most_rows=rows, reporter=reporter)
    else:
        found = job.interpret(Path(run_or_model), text or (), pair, question, reporter=reporter)
    if output is not None:
        job.write_page(found, Path(run_or_model), Path(output))
    if json:
        say(to_json([interpretation.to_json() for interpretation in found]))
        return
    console = make_console()
    for interpretation in found:
        _show(console, interpretation)
    if output is not None:
        say(f"drawn in {output}")


def _show(console: Console, found: Interpretation) -> None:
    """Print one interpretation: its headline, the text in colour, and bars of its strongest words."""
    said = ", ".join(found.predicted) or "nothing"
    console.print(f"{found.label}: {found.probability:.1%}", style="bold", markup=False)
    console.print(f"the model says {said}; {_arithmetic(found)}", markup=False, soft_wrap=True)
    strongest = max((abs(word.attribution) for word in found.words), default=0.0)
    for passage in found.passages:
        console.print()
        console.print(_coloured(passage, strongest), soft_wrap=True)
        if passage.n_cut:
            console.print(f"({passage.n_cut:,} characters were cut and not read)", style="dim", markup=False)
    console.print()
    console.print(_bars(found, "\u2588" if console.encoding.startswith("utf") else "#"), soft_wrap=True)


def _arithmetic(found: Interpretation) -> str:
    """How the score comes about, in one line."""
    line = f"log-odds {found.empty_score:+.2f} for the empty text, {found.score:+.2f} for this one"
    if found.error is None:
        return line
    total = sum(word.attribution for word in found.words) + found.special
    way_out = "; raise --steps for a smaller one" if abs(found.error) > LARGE_ERROR * abs(total) else ""
    return f"{line}; the words add {total:+.2f} (error {found.error:+.3f}{way_out})"


LARGE_ERROR = 0.05
"""Share of what the words add from which the error of the sum is worth more steps."""

FOR = ("#dbe9f6", "#9ecae1", "#4a98c9", "#1764ab")
AGAINST = ("#fee6ce", "#fdb97d", "#f3701b", "#b93d02")
"""Backgrounds from weak to strong: blue and orange, which almost everybody can tell apart."""


def _coloured(passage: Passage, strongest: float) -> Text:
    """The part of a text that was read, each word on the colour of what it adds."""
    from rich.text import Text

    shown = Text(passage.text[passage.start : passage.end])
    for word in passage.words:
        style = _style(word.attribution, strongest)
        if style:
            shown.stylize(style, word.start - passage.start, word.end - passage.start)
    return shown


def _style(attribution: float, strongest: float) -> str:
    """The style of a word; none where it adds next to nothing."""
    share = abs(attribution) / strongest if strongest > 0 else 0.0
    if share < LEAST_SHARE:
        return ""
    level = min(int(share * len(FOR)), len(FOR) - 1)
    background = (FOR if attribution > 0 else AGAINST)[level]
    return f"{'white' if level == len(FOR) - 1 else 'black'} on {background}"


LEAST_SHARE = 0.05
"""Words that add less than this share of the strongest one have no colour."""


def _bars(found: Interpretation, block: str) -> Text:
    """One line for each of the strongest words: the word, what it adds, and a bar with its sign."""
    from rich.cells import cell_len, set_cell_size
    from rich.text import Text

    words = sorted(found.words, key=lambda word: -abs(word.attribution))[:MOST_BARS]
    shown = [" ".join(word.text.split()) or repr(word.text) for word in words]
    width = min(max(map(cell_len, shown), default=0), 24)
    strongest = max((abs(word.attribution) for word in words), default=0.0)
    lines = Text()
    for name, word in zip(shown, words, strict=True):
        length = round(WIDTH * abs(word.attribution) / strongest) if strongest > 0 else 0
        lines.append(f"  {set_cell_size(name, width)}  {word.attribution:+8.3f}  ")
        lines.append(block * length, style=FOR[2] if word.attribution > 0 else AGAINST[2])
        lines.append("\n")
    if len(words) < len(found.words):
        lines.append(f"  and {len(found.words) - len(words):,} weaker words\n", style="dim")
    return lines

"""The page of ``etude interpret``: every text with its words on the colour of what they add."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from etude.evaluation.attribution import Interpretation, Passage, Word
from etude.report.page import Column, Table, render_page

DEEPEST = 62
"""Percent of colour behind the strongest word; the text on it stays readable in the light and in the dark."""

FAINTEST = 3
"""Percent below which a word has no colour."""

MOST_WORDS = 20
"""Words in the table under a text; the strongest are shown."""

METHODS = {
    "integrated_gradients": "Integrated gradients (Sundararajan et al. 2017)",
    "gradient_x_input": "Gradient x input (Shrikumar et al. 2016)",
}


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a text: a word on its colour, or what stands between words.

    Attributes:
        text: the characters.
        colour: ``for``, ``against`` or nothing.
        depth: percent of colour.
        attribution: of the word; None between words.
    """

    text: str
    colour: str = ""
    depth: int = 0
    attribution: float | None = None


def render_interpretations(found: Sequence[Interpretation], *, model: str) -> str:
    """Return the page of some interpretations of the model ``model``."""
    items = [_item(interpretation) for interpretation in found]
    methods = sorted({METHODS[interpretation.method] for interpretation in found})
    return render_page(
        "interpret.html", title="What the words say", model=model, items=items, methods=methods
    )


def _item(found: Interpretation) -> dict[str, Any]:
    """What the template shows of one interpretation."""
    strongest = max((abs(word.attribution) for word in found.words), default=0.0)
    total = sum(word.attribution for word in found.words) + found.special
    return {
        "found": found,
        "said": found.predicted,
        "total": total,
        "passages": [
            {"pieces": list(pieces(passage, strongest)), "n_cut": passage.n_cut} for passage in found.passages
        ],
        "table": _table(found.words),
    }


def pieces(passage: Passage, strongest: float) -> Iterator[Piece]:
    """Cut the part of a text that was read into words and what stands between them.

    >>> word = Word("is", 6, 8, -0.5)
    >>> [(p.text, p.colour, p.depth) for p in pieces(Passage("where is it", 0, 11, [word]), 1.0)]
    [('where ', '', 0), ('is', 'against', 31), (' it', '', 0)]
    """
    at = passage.start
    for word in passage.words:
        if word.start > at:
            yield Piece(passage.text[at : word.start])
        depth = round(DEEPEST * abs(word.attribution) / strongest) if strongest > 0 else 0
        colour = "" if depth < FAINTEST else "for" if word.attribution > 0 else "against"
        yield Piece(passage.text[word.start : word.end], colour, depth, word.attribution)
        at = word.end
    if passage.end > at:
        yield Piece(passage.text[at : passage.end])


def _table(words: Sequence[Word]) -> Table:
    shown = sorted(words, key=lambda word: -abs(word.attribution))[:MOST_WORDS]
    left_out = f"{len(words) - len(shown):,} weaker words are left out." if len(shown) < len(words) else ""
    return Table(
        "The strongest words",
        [
            Column("word", "label"),
            Column("adds", "score", "log-odds that the word adds; above 0 it speaks for the label"),
            Column("at", "count", "the word's first character in its text, counted from 1"),
        ],
        [[word.text, word.attribution, word.start + 1] for word in shown],
        left_out,
    )

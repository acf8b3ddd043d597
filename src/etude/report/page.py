"""One HTML page in one file: it opens offline, asks nobody for anything, and lets no text become code.

A page is a template that extends ``base.html``, with tables (:class:`Table`) and charts (Vega-Lite
specs). Every text is escaped by jinja2, charts travel as JSON in which no tag can end, and a content
security policy names the two scripts of the page by their hashes: nothing else can run, and nothing
can be fetched. Vega evaluates its expressions with an interpreter, so that the policy need not allow
``eval``. Charts take their colours from the page's CSS variables, and follow it into the dark and
onto paper without being drawn again.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, Literal

import jinja2
from markupsafe import Markup

from etude.report.vega import vega_bundle

Spec = Mapping[str, Any]
"""A Vega-Lite chart as JSON."""

Kind = Literal["text", "label", "excerpt", "count", "number", "score", "change", "interval", "bar"]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        title: its heading.
        kind: how cells look: ``text``, ``label`` (a short name in the data's own writing), ``excerpt`` (a
            text of the data, shortened), ``count`` (12,345), ``number`` (four digits), ``score`` (0.123),
            ``change`` (+0.012), ``interval`` (two scores: 0.101 to 0.145), ``bar`` (a score from 0 to 1 with
            its bar).
        help: a sentence for whoever points at the heading.
    """

    title: str
    kind: Kind = "text"
    help: str = ""

    @property
    def numeric(self) -> bool:
        """Whether its cells are numbers, which stand on the right."""
        return self.kind in ("count", "number", "score", "change", "interval", "bar")


@dataclass(frozen=True, slots=True)
class Table:
    """A table that readers can sort by any column.

    Attributes:
        caption: what it shows.
        columns: its columns.
        rows: for each row a cell for each column; None is shown as a dash.
        left_out: a sentence on the rows that are not shown, or nothing.
    """

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]]
    left_out: str = ""

    @property
    def wide(self) -> bool:
        """Whether it holds texts, and takes all the width there is."""
        return any(column.kind == "excerpt" for column in self.columns)


@dataclass(frozen=True, slots=True)
class Excerpt:
    """The beginning of a text.

    Attributes:
        text: what is shown.
        length: characters of the whole text.
    """

    text: str
    length: int

    @property
    def cut(self) -> bool:
        """Whether something was left out."""
        return self.length > len(self.text)


def excerpt(text: str, limit: int = 400) -> Excerpt:
    """Return at most ``limit`` characters of a text, cut between words where there is a place.

    A letter keeps its accents, and an emoji its parts.

    >>> excerpt("one two three", 9)
    Excerpt(text='one two', length=13)
    >>> excerpt("short")
    Excerpt(text='short', length=5)
    """
    if len(text) <= limit:
        return Excerpt(text, len(text))
    end = limit
    while end > 0 and _joins(text[end - 1], text[end]):
        end -= 1
    space = max(text.rfind(mark, 0, end + 1) for mark in (" ", "\n", "\t"))
    if space > 0.7 * limit:
        end = space
    return Excerpt(text[: end or limit], len(text))


def _joins(before: str, after: str) -> bool:
    """Whether two characters are drawn as one: accents, joiners, variation selectors, skin tones."""
    return (
        unicodedata.combining(after) != 0
        or unicodedata.category(after) in ("Mn", "Me", "Cf", "Sk")
        or before == "\u200d"
    )


def render_page(
    template: str, *, title: str, charts: Mapping[str, Spec] | None = None, **context: Any
) -> str:
    """Return a page as one complete HTML text.

    Args:
        template: the name of a template in ``report/templates`` that extends ``base.html``.
        title: the title of the page.
        charts: Vega-Lite specs by the names under which the template places them with
            ``parts.chart(NAME, SENTENCE)``. Where there are none, the script that draws stays away.
        context: what the template shows.

    Raises:
        ValueError: a chart holds a value that is no JSON.
    """
    page = _Page(charts or {})
    rendered = (
        _templates().get_template(template).render(title=title, page=page, css=_asset("page.css"), **context)
    )
    return rendered + ("" if rendered.endswith("\n") else "\n")


@dataclass(frozen=True)
class _Page:
    """What ``base.html`` asks about the page: its charts, its scripts and its policy."""

    charts: Mapping[str, Spec]
    scripts: list[Markup] = field(init=False)

    def __post_init__(self) -> None:
        texts = [vega_bundle()] if self.charts else []
        # Both scripts are the project's or Vega's; texts of the data never become part of them.
        scripts = [Markup(text) for text in [*texts, _asset("page.js")]]  # noqa: S704
        object.__setattr__(self, "scripts", scripts)

    @property
    def policy(self) -> str:
        """The content security policy: the scripts by hash, the page's styles, and nothing from outside."""
        hashes = " ".join(f"'sha256-{_hash(script)}'" for script in self.scripts)
        return (
            f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; "
            "base-uri 'none'; form-action 'none'"
        )

    def data(self, name: str) -> Markup:
        """The spec of a chart as JSON for the inside of a script element."""
        return embedded_json(self.charts[name])

    def has(self, name: str) -> bool:
        """Whether there is such a chart."""
        return name in self.charts


def embedded_json(value: Any) -> Markup:
    r"""Write JSON that can stand in a script element: no tag, comment or entity begins in it.

    Raises:
        ValueError: it holds an infinite number or NaN, which JSON has no word for.

    >>> embedded_json({"text": "</script><!--"})
    Markup('{"text":"\\u003c/script\\u003e\\u003c!--"}')
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 - nothing that HTML could read is left in it


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _asset(name: str) -> Markup:
    return Markup(_read_asset(name))  # noqa: S704 - a file of this package


@functools.cache
def _read_asset(name: str) -> str:
    return files("etude.report").joinpath("templates", name).read_text(encoding="utf-8").strip()


@functools.cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("etude.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "count": count,
        "number": number,
        "score": score,
        "excerpt": excerpt,
        "change": change,
        "interval": interval,
        "sort_key": _sort_key,
        "share": _share,
    }
    return environment


def count(value: float | None) -> str:
    """Write a whole number with its thousands apart.

    >>> count(12345), count(None)
    ('12,345', '–')
    """
    return "–" if _missing(value) else f"{value:,.0f}"


def score(value: float | None) -> str:
    """Write a score with three digits.

    >>> score(0.91234), score(None)
    ('0.912', '–')
    """
    return "–" if _missing(value) else f"{value:.3f}".replace("-", "−")


def change(value: float | None) -> str:
    """Write a difference of scores with its sign.

    >>> change(0.0123), change(-0.2), change(0.0)
    ('+0.012', '−0.200', '0.000')
    """
    text = score(value)
    return f"+{text}" if not _missing(value) and value and value > 0 else text


def interval(bounds: Sequence[float] | None) -> str:
    """Write the two ends of an interval.

    >>> interval([0.1, 0.25])
    '0.100 to 0.250'
    """
    return "–" if not bounds else f"{score(bounds[0])} to {score(bounds[1])}"


def number(value: float | None) -> str:
    """Write any number with four digits that count.

    >>> number(0.000123456), number(1234.5), number(3), number(-2.5), number(3e-6)
    ('0.0001235', '1,234', '3', '−2.5', '3e−6')
    """
    if _missing(value):
        return "–"
    size = abs(value or 0.0)
    if size and not 1e-5 <= size < 1e9:
        mantissa, _, exponent = f"{value:.3g}".partition("e")
        return f"{mantissa}e{int(exponent)}".replace("-", "−")
    digits = max(0, 3 - math.floor(math.log10(size))) if size else 0
    text = f"{value:,.{digits}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text).replace("-", "−")


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def _sort_key(value: Any) -> str:
    """What a cell is sorted by: numbers by their value, texts as they are."""
    if _missing(value):
        return ""
    if isinstance(value, Excerpt):
        return value.text[:80]
    if isinstance(value, (list, tuple)):
        return _sort_key(value[0]) if value else ""
    return repr(float(value)) if isinstance(value, (int, float)) else str(value)[:80]


def _share(value: float | None) -> float:
    """A value as the length of a bar, from 0 to 100."""
    return 0.0 if _missing(value) else round(100 * min(max(float(value or 0.0), 0.0), 1.0), 1)

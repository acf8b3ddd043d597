"""Charts as Vega-Lite specs, each made from a few plain numbers.

Colours are the page's CSS variables, so that charts follow the theme; where a value is shown by colour
it is shown by the opacity of one colour. Names out of the data travel as values and never as field names
or inside expressions, so that no label can mean something to Vega: an order of names is therefore given
as the domain of a scale, since a sort would become an expression that holds them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

ACCENT, SECOND, INK, SOFT, PAPER = (f"var(--{name})" for name in ("accent", "second", "ink", "soft", "paper"))
COLOURS = tuple(f"var(--{name})" for name in ("accent", "second", "third", "fourth", "fifth", "sixth"))
SIGNIFICANT = 4
UNIT = {"domain": [0, 1]}
SpecDict = dict[str, Any]


def brief(value: float) -> float:
    """A number with as many digits as a chart can show.

    >>> brief(0.123456)
    0.1235
    """
    return float(f"{value:.{SIGNIFICANT}g}")


def quantity(field: str, title: str | None = None, **rest: Any) -> SpecDict:
    """Return the encoding of a field of numbers."""
    return {"field": field, "type": "quantitative", "title": title, **rest}


def category(field: str, title: str | None = None, **rest: Any) -> SpecDict:
    """Return the encoding of a field of names."""
    return {"field": field, "type": "nominal", "title": title, **rest}


def spec(sentence: str, values: Sequence[Any], height: int, **rest: Any) -> SpecDict:
    """Return a chart as wide as its place on the page, in which ``rest`` is drawn."""
    return {
        "description": sentence,
        "width": "container",
        "height": height,
        "autosize": {"type": "fit", "contains": "padding"},
        "data": {"values": list(values)},
        **rest,
    }


def colours(names: Sequence[str]) -> SpecDict:
    """Return the encoding of field ``s``: one colour for each name, and a legend where there are several."""
    columns = 1 if long_names(names) else 3
    legend = {"columns": columns, "labelLimit": 0} if len(names) > 1 else None
    return category("s", legend=legend, scale={"domain": list(names), "range": list(COLOURS)})


def long_names(names: Sequence[str]) -> bool:
    """Whether names need a line of the legend each."""
    return len(names) > 1 and sum(map(len, names[:3])) > 44


def own_colour(field: str, yes: str, no: str) -> SpecDict:
    """Return the encoding of a field that is true or false by two colours."""
    return category(field, legend=None, scale={"domain": [True, False], "range": [yes, no]})


def bar_chart(rows: Sequence[Mapping[str, Any]], *, sentence: str, x: str) -> SpecDict:
    """Draw scores as lying bars, one of them our own, with the interval of those that have one.

    Args:
        rows: with name, value, own (whether it is the model of the run), and maybe low and high.
        sentence: what is to be seen, in words.
        x: title of the axis.
    """
    scores = [row["value"] for row in rows]
    names = [row["name"] for row in rows]
    values = [
        {key: brief(cell) if isinstance(cell, float) else cell for key, cell in row.items()} for row in rows
    ]
    reach = [min([0.0, *scores]), max([1.0, *scores])]
    across = quantity("value", x, scale={"domain": reach}, axis={"tickCount": 5})
    quiet = {"domain": False, "ticks": False, "labelColor": INK, "labelLimit": 260, "labelFontSize": 12.5}
    upright = category("name", scale={"domain": names}, axis=quiet)
    bars = {
        "mark": {"type": "bar", "height": {"band": 0.6}, "opacity": 0.75},
        "encoding": {
            "x": across,
            "y": upright,
            "color": own_colour("own", ACCENT, "var(--bar)"),
            "tooltip": [category("name", "model"), quantity("value", x, format=".3f")],
        },
    }
    whiskers = {
        "transform": [{"filter": {"field": "low", "valid": True}}],
        "mark": {"type": "rule", "color": INK, "strokeWidth": 2},
        "encoding": {"x": quantity("low", x), "x2": {"field": "high"}, "y": upright},
    }
    return spec(sentence, values, 34 * len(rows) + 46, layer=[bars, whiskers])


def heat_map(
    cells: Sequence[Mapping[str, Any]],
    *,
    sentence: str,
    rows: Sequence[str],
    columns: Sequence[str],
    y: str,
    x: str,
) -> SpecDict:
    """Draw a matrix as squares whose strength is the share of their row.

    Args:
        cells: with r and c (names of row and column), n (a count), share (0 to 1) and same (on the diagonal).
        sentence: what is to be seen, in words.
        rows: names from top to bottom.
        columns: names from left to right.
        y: title of the vertical axis.
        x: title of the horizontal axis.
    """
    short = len(columns) <= 8 and max(map(len, columns), default=0) <= 8
    quiet = {"domain": False, "ticks": False, "grid": False, "labelColor": INK, "labelLimit": 170}
    top = quiet | {"orient": "top", "labelAngle": 0 if short else -40}
    places = {
        "x": category("c", x, axis=top, scale={"domain": list(columns), "padding": 0.04}),
        "y": category("r", y, axis=quiet, scale={"domain": list(rows), "padding": 0.04}),
        "tooltip": [
            category("r", y), category("c", x), quantity("n", "rows", format=","),
            quantity("share", "share", format=".1%"),
        ],
    }  # fmt: skip
    shares = {"domain": [0, 1], "range": [0.03, 0.95], "type": "sqrt"}
    strength = quantity("share", legend=None, scale=shares)
    colour = own_colour("same", ACCENT, SECOND)
    layers = [{"mark": {"type": "rect"}, "encoding": places | {"color": colour, "opacity": strength}}]
    if len(columns) <= 16:
        layers.append(_counts(places))
    side = 64 if len(columns) <= 8 else 40 if len(columns) <= 16 else 24
    size = {"width": {"step": side}, "height": {"step": min(side, 34)}, "autosize": "pad"}
    values = [{**cell, "share": brief(cell["share"])} for cell in cells]
    return spec(sentence, values, 0, layer=layers) | size


def _counts(places: SpecDict) -> SpecDict:
    """The numbers inside the squares, light on dark ones."""
    light = {"condition": {"test": {"field": "share", "gt": 0.4}, "value": PAPER}, "value": INK}
    return {
        "transform": [{"filter": {"field": "n", "gt": 0}}],
        "mark": {"type": "text", "fontSize": 11},
        "encoding": places | {"text": quantity("n", format=","), "color": light},
    }


def reliability_chart(points: Sequence[Mapping[str, Any]], *, sentence: str) -> SpecDict:
    """Draw how often the model is right over how sure it is: points with p, right, n and s (which curve)."""
    values = [{**row, "p": brief(row["p"]), "right": brief(row["right"])} for row in points]
    few = {"tickCount": 5}
    places = {
        "x": quantity("p", "probability", scale=UNIT, axis=few),
        "y": quantity("right", "share that is right", scale=UNIT, axis=few),
    }
    diagonal = {
        "data": {"values": [{"p": 0, "right": 0}, {"p": 1, "right": 1}]},
        "mark": {"type": "line", "strokeDash": [4, 4], "color": SOFT, "strokeWidth": 1},
        "encoding": places,
    }
    tooltip = [
        category("s", "curve"), quantity("p", "probability", format=".3f"),
        quantity("right", "right", format=".3f"), quantity("n", "answers", format=","),
    ]  # fmt: skip
    colour = colours(list(dict.fromkeys(row["s"] for row in points)))
    curve = {
        "mark": {"type": "line", "point": {"size": 34}},
        "encoding": places | {"color": colour, "tooltip": tooltip},
    }
    return spec(sentence, values, 320, layer=[diagonal, curve])


def threshold_chart(
    curves: Sequence[Mapping[str, Any]],
    chosen: Mapping[str, float],
    *,
    sentence: str,
    metric: str,
    first: str,
) -> SpecDict:
    """Draw a metric over the threshold of one label, picked from a list.

    Args:
        curves: rows with label, t (the threshold) and v (the metric's value).
        chosen: the threshold of each label that has one.
        sentence: what is to be seen, in words.
        metric: its name.
        first: the label that is shown first.
    """
    labels = list(dict.fromkeys(row["label"] for row in curves))
    lowest = min([0.0, *(row["v"] for row in curves)])
    pick = {"name": "picked", "value": first, "bind": {"input": "select", "options": labels, "name": "Label"}}
    only = [{"filter": "datum.label === picked"}]
    told = [category("label", "label"), quantity("t", "threshold", format=".3f")]
    places = {
        "x": quantity("t", "threshold", scale=UNIT, axis={"tickCount": 10}),
        "y": quantity("v", metric, scale={"domain": [lowest, 1]}, axis={"tickCount": 5}),
        "tooltip": [*told, quantity("v", metric, format=".3f")],
    }
    marks = [{"label": name, "t": brief(value)} for name, value in chosen.items()]
    layers = [
        {"transform": only, "mark": {"type": "line"}, "encoding": places},
        {"transform": only, "mark": {"type": "point", "opacity": 0, "size": 60}, "encoding": places},
        {
            "data": {"values": marks},
            "transform": only,
            "mark": {"type": "rule", "color": SECOND, "strokeWidth": 1.6},
            "encoding": {"x": quantity("t", "threshold"), "tooltip": told},
        },
    ]
    return spec(sentence, list(curves), 240, params=[pick], layer=layers)

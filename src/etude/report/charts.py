"""Charts as Vega-Lite specs, each made from a few plain numbers.

Colours are the page's CSS variables, so that charts follow the theme; where a value is shown by colour
it is shown by the opacity of one colour. Names out of the data travel as values and never as field names
or expressions, so that no label can mean something to Vega.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ACCENT, SECOND, INK, SOFT, RULE = ("var(--accent)", "var(--second)", "var(--ink)", "var(--soft)", "var(--rule)")
COLOURS = tuple(f"var(--{name})" for name in ("accent", "second", "third", "fourth", "fifth", "sixth"))
MOST_LINES = len(COLOURS)
MOST_POINTS = 240
"""Points of one line; more than a chart has pixels to tell apart are averaged."""
SIGNIFICANT = 4
SpecDict = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Line:
    """A named line: x and y of its points, rising in x."""

    name: str
    x: Sequence[float]
    y: Sequence[float]

    def finite(self) -> Line:
        """The line without points that are no numbers."""
        pairs = [(x, y) for x, y in zip(self.x, self.y, strict=True) if math.isfinite(y)]
        return Line(self.name, [x for x, _ in pairs], [y for _, y in pairs])

    def thinned(self, most: int = MOST_POINTS) -> Line:
        """The line with neighbours averaged until at most so many points are left.

        >>> Line("a", [1, 2, 3, 4], [0.0, 2.0, 4.0, 6.0]).thinned(2)
        Line(name='a', x=[1.5, 3.5], y=[1.0, 5.0])
        """
        if len(self.x) <= most:
            return self
        edges = [round(i * len(self.x) / most) for i in range(most + 1)]
        spans = list(zip(edges[:-1], edges[1:], strict=True))
        return Line(
            self.name,
            [sum(self.x[a:b]) / (b - a) for a, b in spans],
            [sum(self.y[a:b]) / (b - a) for a, b in spans],
        )


def brief(value: float) -> float:
    """A number with as many digits as a chart can show.

    >>> brief(0.123456)
    0.1235
    """
    return float(f"{value:.{SIGNIFICANT}g}")


def evenly(values: Sequence[Any], most: int) -> list[Any]:
    """At most so many of the values: the first, the last, and some evenly between.

    >>> evenly([0, 1, 2, 3, 4], 3)
    [0, 2, 4]
    """
    if len(values) <= most:
        return list(values)
    return [values[round(i * (len(values) - 1) / (most - 1))] for i in range(most)]


def line_chart(
    lines: Sequence[Line],
    *,
    sentence: str,
    x: str = "step",
    y: str,
    log: bool = False,
    zero: bool = False,
    mark: tuple[float, str] | None = None,
    height: int = 220,
) -> SpecDict:
    """Draw lines over the steps of a run.

    Args:
        lines: at most ``MOST_LINES``; without one chart is drawn empty.
        sentence: what is to be seen, in words.
        x: title of the horizontal axis.
        y: title of the vertical axis.
        log: whether the vertical axis is logarithmic; needs values over 0.
        zero: whether the vertical axis begins at 0.
        mark: a place on the horizontal axis with its name.
        height: of the plane, in pixels.
    """
    drawn = [line.finite().thinned() for line in lines]
    values = [
        {"x": brief(a) if a % 1 else a, "y": brief(b), "s": line.name}
        for line in drawn
        for a, b in zip(line.x, line.y, strict=True)
        if not log or b > 0
    ]
    few = max((len(line.x) for line in drawn), default=0) <= 24
    heights = [value["y"] for value in values]
    scale = {"type": "log", "nice": False} if log else {"zero": zero, "nice": True}
    ticks = {"values": _decades(heights), "format": "~g"} if log else {"tickCount": 5}
    names = [line.name for line in drawn]
    encoding = {
        "x": {"field": "x", "type": "quantitative", "title": x, "axis": _steps_axis(), "scale": {"nice": False}},
        "y": {"field": "y", "type": "quantitative", "title": y, "scale": scale, "axis": ticks},
        "color": _colours(names),
        "tooltip": [
            {"field": "s", "type": "nominal", "title": "line"},
            {"field": "x", "type": "quantitative", "title": x, "format": ",.6~g"},
            {"field": "y", "type": "quantitative", "title": y, "format": ".4~g"},
        ],
    }
    layers: list[SpecDict] = [
        {"mark": {"type": "line", "point": {"size": 26} if few else False}, "encoding": encoding}
    ]
    if not few:
        # A point that cannot be seen answers to the pointer where a thin line would not.
        layers.append({"mark": {"type": "point", "opacity": 0, "size": 60}, "encoding": encoding})
    if mark is not None:
        layers += _mark(*mark)
    # A legend of a line for each name takes nothing from the height of the plane.
    return _spec(sentence, values, height + (15 * (len(names) - 1) if _long(names) else 0), layer=layers)


def _decades(values: Sequence[float]) -> list[float]:
    """Ticks of a logarithmic axis: powers of ten, and 2 and 5 times those where there are few of them.

    >>> _decades([0.02, 3.0]), _decades([1.5, 4.0])
    ([0.1, 1.0], [2.0])
    """
    low, high = min(values, default=1.0), max(values, default=1.0)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [10.0**power for power in powers]
    inside = [tick for tick in ticks if low <= tick <= high]
    if len(inside) < 2:
        inside = [brief(step * tick) for tick in ticks for step in (1, 2, 5) if low <= step * tick <= high]
    return inside


def _mark(place: float, name: str) -> list[SpecDict]:
    """A thin upright line with its name."""
    data = {"values": [{"x": place, "t": name}]}
    at = {"x": {"field": "x", "type": "quantitative"}}
    text = {"type": "text", "align": "left", "dx": 5, "dy": -4, "baseline": "bottom", "color": SOFT}
    return [
        {"data": data, "mark": {"type": "rule", "strokeDash": [3, 3], "color": SOFT}, "encoding": at},
        {
            "data": data,
            "mark": text,
            "encoding": at | {"y": {"value": "height"}, "text": {"field": "t", "type": "nominal"}},
        },
    ]


def band_chart(rows: Sequence[Mapping[str, float]], *, sentence: str, x: str, y: str) -> SpecDict:
    """Draw quantiles over epochs: rows with x and the quantiles p10, p25, p50, p75 and p90."""
    values = [{key: brief(value) for key, value in row.items()} for row in rows]
    across = {"field": "x", "type": "quantitative", "title": x, "axis": {"tickMinStep": 1, "format": "d"}}
    across["scale"] = {"nice": False}

    def area(low: str, high: str, opacity: float) -> SpecDict:
        upright = {"field": low, "type": "quantitative", "title": y, "axis": {"tickCount": 5}}
        return {
            "mark": {"type": "area", "opacity": opacity, "color": ACCENT},
            "encoding": {"x": across, "y": upright, "y2": {"field": high}},
        }

    tooltip = [
        {"field": key, "type": "quantitative", "title": title, "format": ".4~g"}
        for key, title in (("x", x), ("p10", "10 %"), ("p25", "25 %"), ("p50", "median"), ("p75", "75 %"), ("p90", "90 %"))
    ]  # fmt: skip
    median = {
        "mark": {"type": "line", "color": ACCENT, "point": {"size": 30, "color": ACCENT}},
        "encoding": {"x": across, "y": {"field": "p50", "type": "quantitative"}, "tooltip": tooltip},
    }
    layers = [area("p10", "p90", 0.16), area("p25", "p75", 0.26), median]
    return _spec(sentence, values, 230, layer=layers)


def bar_chart(rows: Sequence[Mapping[str, Any]], *, sentence: str, x: str) -> SpecDict:
    """Draw scores as lying bars, one of them our own, with the interval of those that have one.

    Args:
        rows: with name, value, own (whether it is the model of the run), and maybe low and high.
        sentence: what is to be seen, in words.
        x: title of the axis.
    """
    values = [
        {key: brief(cell) if isinstance(cell, float) else cell for key, cell in row.items()} for row in rows
    ]
    low, high = min((row["value"] for row in rows), default=0.0), max((row["value"] for row in rows), default=1.0)
    across = {
        "field": "value",
        "type": "quantitative",
        "title": x,
        "scale": {"domain": [min(0.0, low), max(1.0, high) if high <= 1 else high]},
        "axis": {"tickCount": 5, "grid": True},
    }
    upright = {
        "field": "name",
        "type": "nominal",
        "scale": {"domain": [row["name"] for row in rows]},
        "title": None,
        "axis": {"domain": False, "ticks": False, "labelColor": INK, "labelLimit": 260, "labelFontSize": 12.5},
    }
    tooltip = [
        {"field": "name", "type": "nominal", "title": "model"},
        {"field": "value", "type": "quantitative", "title": x, "format": ".3f"},
    ]
    colour = {
        "field": "own",
        "type": "nominal",
        "legend": None,
        "scale": {"domain": [True, False], "range": [ACCENT, RULE]},
    }
    bars = {
        "mark": {"type": "bar", "height": {"band": 0.6}, "opacity": 0.75},
        "encoding": {"x": across, "y": upright, "color": colour, "tooltip": tooltip},
    }
    whiskers = {
        "transform": [{"filter": {"field": "low", "valid": True}}],
        "mark": {"type": "rule", "color": INK, "strokeWidth": 2},
        "encoding": {
            "x": {"field": "low", "type": "quantitative"},
            "x2": {"field": "high"},
            "y": upright,
        },
    }
    return _spec(sentence, values, 34 * len(rows) + 46, layer=[bars, whiskers])


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
    values = [{**cell, "share": brief(cell["share"])} for cell in cells]
    quiet = {"domain": False, "ticks": False, "grid": False, "labelColor": INK, "labelLimit": 170}
    # An order given as a sort would become an expression that holds the names; a domain stays a value.
    upright = {"field": "r", "type": "nominal", "title": y, "axis": quiet}
    upright["scale"] = {"domain": list(rows), "padding": 0.04}
    across = {"field": "c", "type": "nominal", "title": x}
    short = len(columns) <= 8 and max(map(len, columns), default=0) <= 8
    across["axis"] = quiet | {"orient": "top", "labelAngle": 0 if short else -40}
    across["scale"] = {"domain": list(columns), "padding": 0.04}
    tooltip = [
        {"field": "r", "type": "nominal", "title": y},
        {"field": "c", "type": "nominal", "title": x},
        {"field": "n", "type": "quantitative", "title": "rows", "format": ","},
        {"field": "share", "type": "quantitative", "title": "share", "format": ".1%"},
    ]
    colour = {
        "field": "same",
        "type": "nominal",
        "legend": None,
        "scale": {"domain": [True, False], "range": [ACCENT, SECOND]},
    }
    opacity = {"field": "share", "type": "quantitative", "legend": None}
    opacity["scale"] = {"domain": [0, 1], "range": [0.03, 0.95], "type": "sqrt"}
    places = {"x": across, "y": upright}
    layers: list[SpecDict] = [
        {"mark": {"type": "rect"}, "encoding": places | {"color": colour, "opacity": opacity, "tooltip": tooltip}}
    ]
    if len(columns) <= 16:
        paper = {"condition": {"test": {"field": "share", "gt": 0.4}, "value": "var(--paper)"}, "value": INK}
        layers.append(
            {
                "transform": [{"filter": {"field": "n", "gt": 0}}],
                "mark": {"type": "text", "fontSize": 11},
                "encoding": places
                | {"text": {"field": "n", "type": "quantitative", "format": ","}, "color": paper},
            }
        )
    side = 64 if len(columns) <= 8 else 40 if len(columns) <= 16 else 24
    size = {"width": {"step": side}, "height": {"step": min(side, 34)}, "autosize": "pad"}
    return _spec(sentence, values, 0, layer=layers) | size


def reliability_chart(points: Sequence[Mapping[str, Any]], *, sentence: str) -> SpecDict:
    """Draw how often the model is right over how sure it is: points with p, right, n and s (which curve)."""
    values = [{**row, "p": brief(row["p"]), "right": brief(row["right"])} for row in points]
    names = list(dict.fromkeys(row["s"] for row in points))
    unit = {"domain": [0, 1]}
    few = {"tickCount": 5}
    across = {"field": "p", "type": "quantitative", "title": "probability", "scale": unit, "axis": few}
    upright = {"field": "right", "type": "quantitative", "title": "share that is right", "scale": unit, "axis": few}
    diagonal = {
        "data": {"values": [{"p": 0, "right": 0}, {"p": 1, "right": 1}]},
        "mark": {"type": "line", "strokeDash": [4, 4], "color": SOFT, "strokeWidth": 1},
        "encoding": {"x": across, "y": upright},
    }
    tooltip = [
        {"field": "s", "type": "nominal", "title": "curve"},
        {"field": "p", "type": "quantitative", "title": "probability", "format": ".3f"},
        {"field": "right", "type": "quantitative", "title": "right", "format": ".3f"},
        {"field": "n", "type": "quantitative", "title": "answers", "format": ","},
    ]
    curve = {
        "mark": {"type": "line", "point": {"size": 34}},
        "encoding": {"x": across, "y": upright, "color": _colours(names), "tooltip": tooltip},
    }
    return _spec(sentence, values, 320, layer=[diagonal, curve])


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
    pick = {
        "name": "picked",
        "value": first,
        "bind": {"input": "select", "options": labels, "name": "Label"},
    }
    only = [{"filter": "datum.label === picked"}]
    unit = {"domain": [0, 1]}
    across = {"field": "t", "type": "quantitative", "title": "threshold", "scale": unit, "axis": {"tickCount": 10}}
    upright = {"field": "v", "type": "quantitative", "title": metric, "scale": unit, "axis": {"tickCount": 5}}
    tooltip = [
        {"field": "label", "type": "nominal", "title": "label"},
        {"field": "t", "type": "quantitative", "title": "threshold", "format": ".3f"},
        {"field": "v", "type": "quantitative", "title": metric, "format": ".3f"},
    ]
    places = {"x": across, "y": upright, "tooltip": tooltip}
    marks = [{"label": name, "t": brief(value)} for name, value in chosen.items()]
    layers: list[SpecDict] = [
        {"transform": only, "mark": {"type": "line"}, "encoding": places},
        {"transform": only, "mark": {"type": "point", "opacity": 0, "size": 60}, "encoding": places},
        {
            "data": {"values": marks},
            "transform": only,
            "mark": {"type": "rule", "color": SECOND, "strokeWidth": 1.6},
            "encoding": {"x": {"field": "t", "type": "quantitative"}, "tooltip": tooltip[:2]},
        },
    ]
    return _spec(sentence, list(curves), 240, params=[pick], layer=layers)


def _colours(names: Sequence[str]) -> SpecDict:
    """One colour for each name, and a legend where there are several."""
    encoding: SpecDict = {"field": "s", "type": "nominal"}
    encoding["scale"] = {"domain": list(names), "range": list(COLOURS)}
    columns = 1 if _long(names) else 3
    encoding["legend"] = {"columns": columns, "labelLimit": 0} if len(names) > 1 else None
    return encoding


def _long(names: Sequence[str]) -> bool:
    """Whether names need a line of the legend each."""
    return len(names) > 1 and sum(map(len, names[:3])) > 44


def _steps_axis() -> SpecDict:
    return {"tickCount": 6, "format": ",~r", "grid": False}


def _spec(sentence: str, values: Sequence[Any], height: int, **rest: Any) -> SpecDict:
    """A chart as wide as its place on the page."""
    return {
        "description": sentence,
        "width": "container",
        "height": height,
        "autosize": {"type": "fit", "contains": "padding"},
        "data": {"values": list(values)},
        **rest,
    }

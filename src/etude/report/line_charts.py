"""Lines over the steps of a run, and bands over its epochs, as Vega-Lite specs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from etude.report.charts import (
    ACCENT,
    COLOURS,
    SOFT,
    SpecDict,
    brief,
    category,
    colours,
    long_names,
    quantity,
    spec,
)

MOST_LINES = len(COLOURS)
MOST_POINTS = 240
"""Points of one line; more than a chart has pixels to tell apart are averaged."""


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
        spans = list(itertools.pairwise(edges))
        return Line(
            self.name,
            [sum(self.x[a:b]) / (b - a) for a, b in spans],
            [sum(self.y[a:b]) / (b - a) for a, b in spans],
        )


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
        lines: at most ``MOST_LINES``.
        sentence: what is to be seen, in words.
        x: title of the horizontal axis.
        y: title of the vertical axis.
        log: whether the vertical axis is logarithmic; points of 0 and below are left out of it.
        zero: whether the vertical axis begins at 0.
        mark: a place on the horizontal axis with its name.
        height: of the plane, in pixels.
    """
    names = [line.name for line in lines]
    drawn = [line.finite().thinned() for line in lines]
    values: list[SpecDict] = [
        {"x": brief(a) if a % 1 else a, "y": brief(b), "s": line.name}
        for line in drawn
        for a, b in zip(line.x, line.y, strict=True)
        if not log or b > 0
    ]
    scale = {"type": "log", "nice": False} if log else {"zero": zero, "nice": True}
    ticks = {"values": decades([value["y"] for value in values]), "format": "~g"} if log else {"tickCount": 5}
    steps = {"tickCount": 6, "format": ",~r", "grid": False}
    encoding = {
        "x": quantity("x", x, axis=steps, scale={"nice": False}),
        "y": quantity("y", y, axis=ticks, scale=scale),
        "color": colours(names),
        "tooltip": [category("s", "line"), quantity("x", x, format=",.6~g"), quantity("y", y, format=".4~g")],
    }
    few = max((len(line.x) for line in drawn), default=0) <= 24
    layers: list[SpecDict] = [
        {"mark": {"type": "line", "point": {"size": 26} if few else False}, "encoding": encoding}
    ]
    if not few:
        # A point that cannot be seen answers to the pointer where a thin line would not.
        layers.append({"mark": {"type": "point", "opacity": 0, "size": 60}, "encoding": encoding})
    layers += _mark(*mark) if mark is not None else []
    # A legend of a line for each name takes nothing from the height of the plane.
    return spec(sentence, values, height + (15 * (len(names) - 1) if long_names(names) else 0), layer=layers)


def decades(values: Sequence[float]) -> list[float]:
    """Ticks of a logarithmic axis: powers of ten, and 2 and 5 times those where there are few of them.

    >>> decades([0.02, 3.0]), decades([1.5, 8.0])
    ([0.1, 1.0], [2.0, 5.0])
    """
    low, high = min(values, default=1.0), max(values, default=1.0)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [10.0**power for power in powers if low <= 10.0**power <= high]
    if len(ticks) < 2:
        ticks = [brief(step * 10.0**power) for power in powers for step in (1, 2, 5)]
    return [tick for tick in ticks if low <= tick <= high]


def _mark(place: float, name: str) -> list[SpecDict]:
    """A thin upright line with its name at its foot."""
    data = {"values": [{"x": place, "t": name}]}
    rule = {"type": "rule", "strokeDash": [3, 3], "color": SOFT}
    text = {"type": "text", "align": "left", "dx": 5, "dy": -4, "baseline": "bottom", "color": SOFT}
    at = {"x": {"field": "x", "type": "quantitative"}}
    foot = at | {"y": {"value": "height"}, "text": category("t")}
    return [{"data": data, "mark": rule, "encoding": at}, {"data": data, "mark": text, "encoding": foot}]


def band_chart(rows: Sequence[Mapping[str, float]], *, sentence: str, x: str, y: str) -> SpecDict:
    """Draw quantiles over epochs: rows with x and the quantiles p10, p25, p50, p75 and p90."""
    values = [{key: brief(value) for key, value in row.items()} for row in rows]
    epochs = {"values": evenly([row["x"] for row in rows], 12), "format": "d", "grid": False}
    across = quantity("x", x, axis=epochs, scale={"nice": False})

    def area(low: str, high: str, opacity: float) -> SpecDict:
        return {
            "mark": {"type": "area", "opacity": opacity, "color": ACCENT},
            "encoding": {"x": across, "y": quantity(low, y, axis={"tickCount": 5}), "y2": {"field": high}},
        }

    titles = {"x": x, "p10": "10 %", "p25": "25 %", "p50": "median", "p75": "75 %", "p90": "90 %"}
    told = [quantity(field, title, format=".4~g") for field, title in titles.items()]
    median = {
        "mark": {"type": "line", "color": ACCENT, "point": {"size": 30, "color": ACCENT}},
        "encoding": {"x": across, "y": quantity("p50", y), "tooltip": told},
    }
    return spec(sentence, values, 230, layer=[area("p10", "p90", 0.16), area("p25", "p75", 0.26), median])

"""The charts of a study: history, importances, slices, parallel coordinates, and the winner by seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from etude.report.charts import (
    ACCENT,
    INK,
    SECOND,
    SOFT,
    SpecDict,
    bar_chart,
    brief,
    category,
    colours,
    own_colour,
    quantity,
    spec,
)

Record = Mapping[str, Any]
Trials = Sequence[Mapping[str, Any]]

PHASES = {
    "default": "default",
    "explore": "exploration",
    "exploit": "exploitation",
    "grid": "grid",
    "survivor": "survivor",
}
"""What the phases are called on the page."""

FAINT, STRONG = 0.08, 0.9
"""Opacity of the lines of the worst and of the best trial."""


def history_chart(trials: Trials, metric: str, *, greater_is_better: bool, rows: str) -> SpecDict | None:
    """The value of each trial in the order of the trials, and the best so far."""
    scored = [trial for trial in trials if trial["value"] is not None]
    if len(scored) < 2:
        return None
    values = [
        {
            "n": trial["place"] + 1,
            "v": brief(trial["value"]),
            "s": PHASES.get(trial["phase"], trial["phase"]),
            "state": trial["state"],
            "whole": trial["state"] == "complete",
        }
        for trial in scored
    ]
    best: list[dict[str, Any]] = []
    for row in values:
        so_far = best[-1]["v"] if best else row["v"]
        if row["whole"]:
            so_far = max(so_far, row["v"]) if greater_is_better else min(so_far, row["v"])
        best.append({"n": row["n"], "v": so_far})
    names = list(dict.fromkeys(row["s"] for row in values))
    places = {
        "x": quantity("n", "trial", scale={"nice": False}, axis={"tickMinStep": 1, "format": "d"}),
        "y": quantity("v", metric, scale={"zero": False, "nice": True}, axis={"tickCount": 6}),
    }
    line = {
        "data": {"values": best},
        "mark": {"type": "line", "interpolate": "step-after", "color": SOFT, "strokeWidth": 1.4},
        "encoding": places,
    }
    points = {
        "mark": {"type": "point", "filled": True, "size": 52},
        "encoding": places
        | {
            "color": _coloured(names),
            "opacity": {"condition": {"test": {"field": "whole", "equal": False}, "value": 0.3}, "value": 1},
            "tooltip": [
                quantity("n", "trial"), category("s", "phase"), category("state", "state"),
                quantity("v", metric, format=".4f"),
            ],
        },
    }  # fmt: skip
    sentence = f"Each point is a trial on {rows}; the line is the best so far, and faint points were pruned."
    return spec(sentence, values, 300, layer=[line, points])


def importance_chart(importances: Mapping[str, float]) -> SpecDict | None:
    """How much of the scores' variance each setting explains."""
    if not importances:
        return None
    rows = [{"name": path, "value": value, "own": True} for path, value in importances.items()]
    sentence = (
        "The share of the variance of the scores that a setting explains within its range (fANOVA). A small "
        "share means that its range is safe, not that the setting does nothing."
    )
    return bar_chart(rows, sentence=sentence, x="share of the variance")


def slice_chart(dimension: Mapping[str, Any], trials: Trials, metric: str, best: int) -> SpecDict | None:
    """The value of all trials over one setting; the best one stands out.

    Args:
        dimension: the setting, as the record has it.
        trials: of one stage.
        metric: what was compared.
        best: place of the best trial.
    """
    path = dimension["path"]
    values = [
        {
            "p": _shown(trial["params"][path]),
            "v": brief(trial["value"]),
            "best": trial["place"] == best,
            "n": trial["place"] + 1,
        }
        for trial in trials
        if trial["state"] == "complete" and trial["params"][path] is not None
    ]
    if len(values) < 2:
        return None
    across = _across(dimension)
    sentence = f"Finished trials over {path} ({dimension['words']}); the best one is marked."
    encoding = {
        "x": across,
        "y": quantity("v", metric, scale={"zero": False, "nice": True}, axis={"tickCount": 4}),
        "color": own_colour("best", SECOND, ACCENT),
        "size": {"condition": {"test": {"field": "best", "equal": True}, "value": 130}, "value": 40},
        "tooltip": [
            quantity("n", "trial"), {"field": "p", "type": across["type"], "title": "setting"},
            quantity("v", metric, format=".4f"),
        ],
    }  # fmt: skip
    mark = {"type": "point", "filled": True, "opacity": 0.8, "clip": True}
    return spec(sentence, values, 190, mark=mark, encoding=encoding)


def _across(dimension: Mapping[str, Any]) -> SpecDict:
    """The axis of one setting."""
    if dimension["choices"]:
        names = [_shown(choice) for choice in dimension["choices"]]
        return category("p", None, scale={"domain": names}, axis={"labelAngle": 0, "labelLimit": 120})
    ends = {"domain": [dimension["low"], dimension["high"]], "nice": False}
    if not dimension["log"]:
        return quantity("p", scale=ends | {"zero": False}, axis={"tickCount": 5, "format": "~g"})
    decades = _decades(dimension["low"], dimension["high"])
    axis = {"values": decades, "format": "~g"} if len(decades) > 1 else {"tickCount": 4, "format": "~g"}
    return quantity("p", scale=ends | {"type": "log"}, axis=axis)


def _decades(low: float, high: float) -> list[float]:
    """The powers of ten from low to high.

    >>> _decades(1e-3, 0.3)
    [0.001, 0.01, 0.1]
    """
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    return [float(f"1e{power}") for power in range(first, last + 1)]


def _coloured(names: Sequence[str]) -> SpecDict:
    """Colours of points, with points in the legend."""
    found = colours(names)
    if found["legend"] is not None:
        found["legend"] = found["legend"] | {"symbolType": "circle", "symbolStrokeWidth": 5, "symbolSize": 40}
    return found


def _shown(value: Any) -> Any:
    """A choice as a name; numbers of ranges stay numbers."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value).lower() if isinstance(value, bool) else str(value)
    return value


def parallel_chart(
    dimensions: Sequence[Mapping[str, Any]], trials: Trials, metric: str, *, greater_is_better: bool
) -> SpecDict | None:
    """Each trial as a line over all settings, each on its own scale; strong lines are good trials."""
    paths = [dimension["path"] for dimension in dimensions]
    whole = [
        trial
        for trial in trials
        if trial["state"] == "complete" and all(trial["params"][path] is not None for path in paths)
    ]
    if len(whole) < 3 or len(paths) < 2:
        return None
    ranked = sorted(whole, key=lambda trial: trial["value"], reverse=not greater_is_better)
    values = []
    for rank, trial in enumerate(ranked):
        strength = FAINT + (STRONG - FAINT) * (rank / (len(ranked) - 1)) ** 2
        for dimension in dimensions:
            given = trial["params"][dimension["path"]]
            values.append(
                {
                    "p": dimension["path"],
                    "y": brief(_share(dimension, given)),
                    "n": trial["place"] + 1,
                    "o": brief(strength),
                    "best": rank == len(ranked) - 1,
                    "given": f"{given:.4g}" if isinstance(given, float) else str(_shown(given)),
                    "v": brief(trial["value"]),
                }
            )
    marks = [
        {"p": dimension["path"], "y": y, "t": text}
        for dimension in dimensions
        for y, text in zip((0, 1), _ends(dimension), strict=True)
    ]
    x = category(
        "p", None, scale={"domain": paths, "type": "point", "padding": 0.4},
        axis={"labelAngle": -20, "labelColor": INK, "grid": True, "domain": False, "labelLimit": 190},
    )  # fmt: skip
    y = quantity("y", None, axis=None, scale={"domain": [-0.08, 1.08]})
    lines = {
        "mark": {"type": "line", "strokeWidth": 1.6},
        "encoding": {
            "x": x,
            "y": y,
            "detail": category("n"),
            "color": own_colour("best", SECOND, ACCENT),
            "opacity": quantity("o", legend=None, scale={"domain": [0, 1], "range": [0, 1]}),
        },
    }
    points = {
        "mark": {"type": "point", "opacity": 0, "size": 60, "filled": True},
        "encoding": {
            "x": x, "y": y,
            "tooltip": [
                quantity("n", "trial"), category("p", "setting"), category("given", "value"),
                quantity("v", metric, format=".4f"),
            ],
        },
    }  # fmt: skip
    ends = {
        "data": {"values": marks},
        "mark": {"type": "text", "fontSize": 10.5, "color": SOFT, "dx": 4, "align": "left"},
        "encoding": {"x": x, "y": y, "text": category("t")},
    }
    sentence = (
        "Each line is a finished trial and crosses every setting at its value, from the low end of its range "
        "below to the high one above. The stronger a line, the better the trial; the best has its own colour."
    )
    return spec(sentence, values, 360, layer=[lines, points, ends])


def _share(dimension: Mapping[str, Any], value: Any) -> float:
    """How far along its scale a value lies."""
    if dimension["choices"]:
        choices = list(dimension["choices"])
        return choices.index(value) / max(len(choices) - 1, 1) if value in choices else 0.5
    low, high = dimension["low"], dimension["high"]
    if dimension["log"]:
        low, high = math.log(low), math.log(high)
        value = math.log(value) if value > 0 else low
    return min(max((value - low) / (high - low), 0.0), 1.0)


def _ends(dimension: Mapping[str, Any]) -> tuple[str, str]:
    if dimension["choices"]:
        return str(_shown(dimension["choices"][0])), str(_shown(dimension["choices"][-1]))
    return f"{dimension['low']:g}", f"{dimension['high']:g}"


def seeds_chart(confirmation: Mapping[str, Any], metric: str) -> SpecDict:
    """Winner and default by seed, the two of a seed joined."""
    both = zip(confirmation["seeds"], confirmation["default"], confirmation["winner"], strict=True)
    pairs = [{"seed": str(seed), "a": brief(one), "b": brief(other)} for seed, one, other in both]
    values = [
        {"seed": pair["seed"], "v": pair[key], "s": name}
        for pair in pairs
        for key, name in (("a", "default"), ("b", "winner"))
    ]
    seeds = category(
        "seed",
        "seed",
        scale={"domain": [pair["seed"] for pair in pairs]},
        axis={"grid": False, "ticks": False},
    )
    scale = {"zero": False, "nice": True}
    rules = {
        "data": {"values": pairs},
        "mark": {"type": "rule", "color": SOFT, "strokeWidth": 1.4},
        "encoding": {"y": seeds, "x": quantity("a", metric, scale=scale), "x2": {"field": "b"}},
    }
    points = {
        "mark": {"type": "point", "filled": True, "size": 90, "opacity": 1},
        "encoding": {
            "y": seeds,
            "x": quantity("v", metric, scale=scale, axis={"tickCount": 6}),
            "color": _coloured(["default", "winner"]),
            "tooltip": [
                category("s", "settings"),
                category("seed", "seed"),
                quantity("v", metric, format=".4f"),
            ],
        },
    }
    sentence = (
        "Each row is a fresh seed, with the default and the winner on the same split and the same order."
    )
    return spec(sentence, values, 30 * len(pairs) + 90, layer=[rules, points])

"""The page of a checkup: what was asked of the data, the answers in words, and the figures to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from etude.data.verdicts import Checkup
from etude.report.charts import ACCENT, COLOURS, INK, SECOND, SOFT, SpecDict, brief, heat_map
from etude.report.check_data_tables import PARTS, tables_of
from etude.report.page import render_page

MOST_LABELS = 40
"""Labels in a chart; of more, the commonest and the rarest."""

WORDS = {"safe": "Safe", "look": "Look", "unsafe": "Unsafe"}
TITLES = {
    "schema": "Rows and columns",
    "labels": "Labels",
    "co-occurrence": "Labels together",
    "lengths": "Lengths",
    "duplicates": "Duplicates",
    "leaks": "Leaks",
    "groups": "Groups and times",
    "drift": "Drift",
    "noise": "Noise",
    "agreement": "Agreement",
}
"""What sections are called where there is little room."""


def render_checkup(checkup: Checkup) -> str:
    """Return the checkup as one complete HTML page."""
    content = checkup.to_json()
    evidence = {section["name"]: section["evidence"] for section in content["sections"]}
    charts = {name: spec for name, spec in _charts(content, evidence).items() if spec is not None}
    return render_page(
        "check_data.html",
        title=f"The data of {checkup.source}",
        charts=charts,
        checkup=content,
        words=WORDS,
        titles=TITLES,
        tables=tables_of(evidence),
        sentences={name: spec["description"] for name, spec in charts.items()},
    )


def _charts(content: Mapping[str, Any], evidence: Mapping[str, Any]) -> dict[str, SpecDict | None]:
    return {
        "labels": _label_chart(content, evidence),
        "lengths": _length_chart(evidence),
        "co-occurrence": _together_chart(content, evidence),
        "agreement": _agreement_chart(evidence),
    }


def _label_chart(content: Mapping[str, Any], evidence: Mapping[str, Any]) -> SpecDict | None:
    """The share of each part's rows that each label has, as lying bars beside each other."""
    counts = evidence.get("labels", {}).get("counts", [])
    if not counts:
        return None
    ordered = sorted(counts, key=lambda row: -row["train"])
    half = MOST_LABELS // 2
    shown = ordered if len(ordered) <= MOST_LABELS else [*ordered[:half], *ordered[-half:]]
    parts = [part for part in PARTS if part in ordered[0]]
    values = [
        {
            "label": row["label"],
            "part": part,
            "share": brief(row[part] / max(content["rows"][part], 1)),
            "n": row[part],
        }
        for row in shown
        for part in parts
    ]
    left_out = f" ({half} commonest and {half} rarest of {len(ordered)})" if len(shown) < len(ordered) else ""
    sentence = f"The share of each part's rows that have a label{left_out}; equal bars are equal shares."
    names = [row["label"] for row in shown]
    height = {"step": 9 if len(parts) > 1 else 18}
    encoding = _label_encoding(names, parts)
    return _spec(sentence, values, height, mark={"type": "bar"}, encoding=encoding)


def _label_encoding(names: Sequence[str], parts: Sequence[str]) -> SpecDict:
    """Labels from top to bottom, the bars of their parts under each other."""
    return {
        "y": {
            "field": "label",
            "type": "nominal",
            "sort": names,
            "title": None,
            "axis": {"domain": False, "ticks": False, "labelColor": INK, "labelLimit": 220},
        },
        "yOffset": {"field": "part", "type": "nominal", "sort": parts},
        "x": {
            "field": "share",
            "type": "quantitative",
            "title": "share of rows",
            "axis": {"format": "~%", "tickCount": 6},
        },
        "color": {
            "field": "part",
            "type": "nominal",
            "sort": parts,
            "scale": {"domain": parts, "range": list(COLOURS[: len(parts)])},
            "legend": {"symbolType": "square"} if len(parts) > 1 else None,
        },
        "tooltip": [
            {"field": "label", "type": "nominal", "title": "label"},
            {"field": "part", "type": "nominal", "title": "part"},
            {"field": "n", "type": "quantitative", "title": "rows", "format": ","},
            {"field": "share", "type": "quantitative", "title": "share", "format": ".2%"},
        ],
    }


def _length_chart(evidence: Mapping[str, Any]) -> SpecDict | None:
    """How many texts have how many tokens, and where they are cut."""
    found = evidence.get("lengths")
    if not found:
        return None
    edges, counts = found["histogram"]["edges"], found["histogram"]["counts"]
    log = len(edges) > 3 and edges[-1] - edges[-2] > 1.5 * (edges[1] - edges[0])
    values = [{"a": a, "b": b, "n": n} for a, b, n in zip(edges, edges[1:], counts, strict=False)]
    limit = found["max_length"]
    where = f"cut at {limit:,}" if limit < edges[-1] else f"the limit of {limit:,} lies beyond the longest"
    sentence = f"Tokens of each text{' (guessed)' if found['guessed'] else ''}, all parts together; {where}."
    scale = {"type": "log", "nice": False} if log else {"nice": False, "zero": False}
    across = {
        "field": "a",
        "type": "quantitative",
        "title": "tokens" + (" (logarithmic)" if log else ""),
        "scale": scale,
        "axis": {"grid": False, "format": ",d", "tickCount": 8},
    }
    bars = {
        "mark": {"type": "rect", "color": ACCENT},
        "encoding": {
            "x": across,
            "x2": {"field": "b"},
            "y": {"field": "n", "type": "quantitative", "title": "texts", "axis": {"tickCount": 4}},
            "y2": {"datum": 0},
            "tooltip": [
                {"field": "a", "type": "quantitative", "title": "from", "format": ","},
                {"field": "b", "type": "quantitative", "title": "to below", "format": ","},
                {"field": "n", "type": "quantitative", "title": "texts", "format": ","},
            ],
        },
    }
    layers: list[SpecDict] = [bars]
    if edges[0] <= limit < edges[-1]:
        data = {"values": [{"a": limit, "t": f"cut at {limit:,}"}]}
        at = {"x": {"field": "a", "type": "quantitative"}}
        text = {"type": "text", "align": "left", "dx": 5, "baseline": "top", "color": SOFT}
        rule = {"type": "rule", "color": SECOND, "strokeWidth": 1.6}
        layers += [
            {"data": data, "mark": rule, "encoding": at},
            {"data": data, "mark": text, "encoding": at | {"y": {"value": 0}, "text": {"field": "t"}}},
        ]
    return _spec(sentence, values, 200, layer=layers)


def _together_chart(content: Mapping[str, Any], evidence: Mapping[str, Any]) -> SpecDict | None:
    """Of the rows of each label, the share that has each other one."""
    matrix = evidence.get("co-occurrence", {}).get("matrix")
    if matrix is None or len(matrix) < 2:
        return None
    labels = content["labels"]
    order = sorted(range(len(labels)), key=lambda c: -matrix[c][c])
    cells = [
        {
            "r": labels[a],
            "c": labels[b],
            "n": matrix[a][b],
            "share": matrix[a][b] / max(matrix[a][a], 1),
            "same": a == b,
        }
        for a in order
        for b in order
    ]
    names = [labels[c] for c in order]
    sentence = "Of the training rows with the label on the left, the share that has the label above as well."
    return heat_map(cells, sentence=sentence, rows=names, columns=names, y="rows of", x="that also have")


def _agreement_chart(evidence: Mapping[str, Any]) -> SpecDict | None:
    """The scores of models of different quality on both parts."""
    found = evidence.get("agreement")
    if not found:
        return None
    values = [
        {"v": brief(m["validation"]), "t": brief(m["test"]), "s": brief(m["share_of_training_rows"])}
        for m in found["models"]
    ]
    metric = found["metric"]
    sentence = f"Each point is a model: its {metric} on validation and on the test rows. A line is wanted."

    def axis(field: str, title: str) -> SpecDict:
        return {
            "field": field,
            "type": "quantitative",
            "title": title,
            "scale": {"zero": False, "nice": True},
        }

    encoding = {
        "x": axis("v", f"{metric}, validation"),
        "y": axis("t", f"{metric}, test rows"),
        "tooltip": [
            {"field": "v", "type": "quantitative", "title": "validation", "format": ".3f"},
            {"field": "t", "type": "quantitative", "title": "test rows", "format": ".3f"},
            {"field": "s", "type": "quantitative", "title": "of the training rows", "format": ".1%"},
        ],
    }
    return _spec(
        sentence,
        values,
        240,
        mark={"type": "point", "filled": True, "size": 70, "color": ACCENT},
        encoding=encoding,
    )


def _spec(sentence: str, values: Sequence[Any], height: Any, **rest: Any) -> SpecDict:
    """A chart as wide as its place on the page."""
    return {
        "description": sentence,
        "width": "container",
        "height": height,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "data": {"values": list(values)},
        **rest,
    }

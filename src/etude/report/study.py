"""The page of a study: which variants and techniques help on these data, by how much, at what cost.

A page, a Markdown text and the command line show the same rows; all are functions of what
:meth:`etude.search.study.StudyResult.to_json` gives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from etude.report.charts import ACCENT, INK, SOFT, SpecDict, brief, category, quantity, spec
from etude.report.page import Column, Table, change, interval, render_page, score

VERDICTS = {
    "helped": ("good", "helped"),
    "hurt": ("bad", "hurt"),
    "nothing": ("unknown", "nothing"),
    "unknown": ("unknown", "open"),
    "failed": ("look", "failed"),
}
"""Each verdict's sign and word."""

ROLES = {
    "variant": "a variant of the base",
    "added": "not in the base; measured by adding it",
    "removed": "in the base; measured by leaving it out",
}

HOW = (
    "Each seed gives the base and every variant the same split, the same order of rows and the same first "
    "head, so that differences are of pairs. The interval is Student's t of their mean; p is corrected "
    "by Holm for the number of variants, and a verdict needs p below 0.05. Splits of different seeds share "
    "rows, so that intervals are those of these data and somewhat narrow for others of their kind."
)


def render_study(study: Mapping[str, Any], title: str = "Study") -> str:
    """Return the study as one complete HTML page."""
    charts: dict[str, SpecDict] = {}
    shown = [f for f in study["findings"] if f["effect"] is not None]
    if shown:
        charts["effects"] = effects_chart(shown, study["metric"])
    test = study["test"]
    return render_page(
        "study.html",
        title=title,
        charts=charts,
        study=study,
        lead=lead(study),
        sentences={name: chart["description"] for name, chart in charts.items()},
        verdicts=[{"finding": f, "sign": VERDICTS[f["verdict"]]} for f in study["findings"]],
        roles=ROLES,
        leaderboard=leaderboard(study["findings"], study["metric"], "validation part"),
        scores=scores_table(study),
        failures=[f for f in study["findings"] if f["failures"]],
        test=None if test is None else leaderboard(test["findings"], study["metric"], "test part"),
        how=HOW,
    )


def lead(study: Mapping[str, Any]) -> str:
    """The outcome in two sentences."""
    found = {word: [f["name"] for f in study["findings"] if f["verdict"] == word] for word in VERDICTS}
    n = len(study["findings"])
    parts = [f"{', '.join(found['helped'])} helped" if found["helped"] else "nothing was shown to help"]
    if found["hurt"]:
        parts.append(f"{', '.join(found['hurt'])} hurt")
    quiet = len(found["nothing"])
    if quiet:
        parts.append(f"{quiet} did nothing that these seeds can see")
    if found["failed"]:
        parts.append(f"{len(found['failed'])} failed")
    base = study["base"]
    sentence = f"Of {n} compared with the base, {'; '.join(parts)}."
    return f"{sentence} The base reaches {study['metric']} {plus_minus(base)} over {base['n']} seeds."


def plus_minus(mean: Mapping[str, Any]) -> str:
    """A mean with its standard error.

    >>> plus_minus({"mean": 0.8123, "se": 0.0041, "n": 5}), plus_minus({"mean": 0.8, "se": None, "n": 1})
    ('0.812 ± 0.004', '0.800')
    """
    if not mean["n"]:
        return "–"
    return score(mean["mean"]) + ("" if mean["se"] is None else f" ± {score(mean['se'])}")


def times(ratio: float | None) -> str:
    """A ratio of costs.

    >>> times(1.234), times(None)
    ('1.23 x', '–')
    """
    return "–" if ratio is None else f"{ratio:.2f} x"


def probability(p: float | None) -> str:
    """A probability with three digits, which no test finds to be zero.

    >>> probability(0.0421), probability(0.0001), probability(None)
    ('0.042', '< 0.001', '–')
    """
    return "–" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def cells(finding: Mapping[str, Any]) -> list[str]:
    """One row of the leaderboard as texts: name, verdict, effect, interval, p, wins, time, memory, seeds."""
    effect = finding["effect"]
    bounds = effect and effect["low"] is not None and [effect["low"], effect["high"]]
    return [
        finding["name"] + (" (in the base)" if finding["role"] == "removed" else ""),
        VERDICTS[finding["verdict"]][1],
        change(effect["mean"]) if effect else "–",
        interval(bounds or None),
        probability(finding["p"]),
        "–" if finding["win_rate"] is None else f"{finding['win_rate']:.0%}",
        times(finding["time"]),
        times(finding["memory"]),
        str(len(finding["seeds"])),
    ]


HEADS = ("what", "verdict", "effect", "95 % interval", "p", "wins", "time", "memory", "seeds")


def leaderboard(findings: Sequence[Mapping[str, Any]], metric: str, part: str) -> Table:
    """The findings, best effects first."""
    columns = [
        Column("What", "label"),
        Column("Verdict"),
        Column("Effect", "change", f"on {metric}: with it minus without it, mean of the pairs"),
        Column("95 % interval", "interval", "of the mean difference"),
        Column("p", "number", "of no difference, corrected by Holm"),
        Column("Wins", "score", "share of seeds on which it is better; equal ones count half"),
        Column("Time", "number", "training time with it to without it"),
        Column("Memory", "number", "peak memory with it to without it"),
        Column("Seeds", "count"),
    ]
    rows = []
    for found in findings:
        effect = found["effect"]
        bounds = [effect["low"], effect["high"]] if effect and effect["low"] is not None else None
        rows.append(
            [
                found["name"],
                VERDICTS[found["verdict"]][1],
                effect["mean"] if effect else None,
                bounds,
                found["p"],
                found["win_rate"],
                found["time"],
                found["memory"],
                len(found["seeds"]),
            ]
        )
    return Table(f"What each brings to {metric} on the {part}", columns, rows)


def scores_table(study: Mapping[str, Any]) -> Table:
    """The scores themselves: mean, standard error and each seed."""
    seeds = study["seeds"]
    columns = [
        Column("Trained as", "label"),
        Column(f"Mean {study['metric']}", "score"),
        Column("SE", "score", "standard error of the mean"),
        *(Column(f"seed {seed}", "score") for seed in seeds),
    ]

    def row(name: str, mean: Mapping[str, Any], scores: Mapping[Any, float]) -> list[Any]:
        by_seed = {int(seed): value for seed, value in scores.items()}
        return [name, mean["mean"] if mean["n"] else None, mean["se"], *(by_seed.get(seed) for seed in seeds)]

    rows = [row("base", study["base"], study["base_scores"])]
    for found in study["findings"]:
        name = f"without {found['name']}" if found["role"] == "removed" else found["name"]
        rows.append(row(name, found["score"], found["scores"]))
    return Table("Scores on the validation part", columns, rows)


def effects_chart(findings: Sequence[Mapping[str, Any]], metric: str) -> SpecDict:
    """Draw each effect as a point with its interval, and the differences of the seeds as fainter points."""
    names = [found["name"] for found in findings]
    values: list[dict[str, Any]] = []
    for found in findings:
        effect = found["effect"]
        row = {"name": found["name"], "value": brief(effect["mean"]), "kind": "mean"}
        if effect["low"] is not None:
            row |= {"low": brief(effect["low"]), "high": brief(effect["high"])}
        row["sure"] = found["verdict"] in ("helped", "hurt")
        values.append(row)
        values += [
            {"name": found["name"], "value": brief(value), "kind": "seed", "seed": seed}
            for seed, value in zip(found["seeds"], found["effects"], strict=True)
        ]
    title = f"effect on {metric}, with minus without"
    quiet = {"domain": False, "ticks": False, "labelColor": INK, "labelLimit": 260, "labelFontSize": 12.5}
    upright = category("name", scale={"domain": names}, axis=quiet)
    across = quantity("value", title, axis={"tickCount": 6, "format": "+.3~f"})
    means = [{"filter": {"field": "kind", "equal": "mean"}}]
    colour = category("sure", legend=None, scale={"domain": [True, False], "range": [ACCENT, INK]})
    layers: list[SpecDict] = [
        {
            "data": {"values": [{"zero": 0}]},
            "mark": {"type": "rule", "color": SOFT, "strokeDash": [3, 3]},
            "encoding": {"x": quantity("zero", title)},
        },
        {
            "transform": [{"filter": {"field": "kind", "equal": "seed"}}],
            "mark": {"type": "point", "filled": True, "size": 26, "opacity": 0.35, "color": INK},
            "encoding": {
                "x": across,
                "y": upright,
                "tooltip": [
                    category("name", "what"),
                    quantity("seed", "seed"),
                    quantity("value", "difference", format="+.4f"),
                ],
            },
        },
        {
            "transform": [*means, {"filter": {"field": "low", "valid": True}}],
            "mark": {"type": "rule", "strokeWidth": 2.5},
            "encoding": {"x": quantity("low", title), "x2": {"field": "high"}, "y": upright, "color": colour},
        },
        {
            "transform": means,
            "mark": {"type": "point", "filled": True, "size": 90, "opacity": 1},
            "encoding": {
                "x": across,
                "y": upright,
                "color": colour,
                "tooltip": [
                    category("name", "what"),
                    quantity("value", "mean", format="+.4f"),
                    quantity("low", "from", format="+.4f"),
                    quantity("high", "to", format="+.4f"),
                ],
            },
        },
    ]
    sentence = (
        f"What each brings to {metric}: a large point is the mean of the paired differences, its line the "
        "95 % interval, and faint points are single seeds. Coloured ones are beyond chance, also after the "
        "correction for their number."
    )
    return spec(sentence, values, 30 * len(names) + 50, layer=layers)


def study_markdown(study: Mapping[str, Any], title: str = "Study") -> str:
    """Return the study as Markdown: the outcome, the leaderboard, the scores."""
    lines = [f"# {title}", "", lead(study), "", *_rows(HEADS, map(cells, study["findings"])), ""]
    lines += [f"* {f['name']}: {f['sentence']}." for f in study["findings"]]
    table = scores_table(study)
    scored = [[str(row[0]), *(score(cell) for cell in row[1:])] for row in table.rows]
    lines += ["", *_rows([column.title for column in table.columns], scored), ""]
    if study["test"] is not None:
        base = plus_minus(study["test"]["base"])
        lines += ["## Test part", "", f"The base reaches {study['metric']} {base}.", ""]
        lines += [*_rows(HEADS, map(cells, study["test"]["findings"])), ""]
    lines += [HOW, *(f"\n{note}" for note in study["notes"])]
    return "\n".join(lines) + "\n"


def _rows(heads: Sequence[str], rows: Any) -> list[str]:
    def line(texts: Sequence[str]) -> str:
        return f"| {' | '.join(text.replace('|', chr(92) + '|') for text in texts)} |"

    return [line(heads), line(["---"] * len(heads)), *map(line, rows)]

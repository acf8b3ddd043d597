"""The page of a study: whether the winner is better, which settings matter, and every trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from etude.report.charts import SpecDict
from etude.report.page import Column, Table, render_page
from etude.report.tuning_charts import (
    PHASES,
    history_chart,
    importance_chart,
    parallel_chart,
    seeds_chart,
    slice_chart,
)

Record = Mapping[str, Any]

MOST_SLICES = 16
"""Settings that get a chart of their own, the most important ones first."""
SIGNS = {"better": "good", "undecided": "look", "worse": "bad"}
WORDS = {"better": "Better", "undecided": "Not shown", "worse": "Worse"}


def render_study(record: Record) -> str:
    """Return the page of a study as one complete HTML text.

    Args:
        record: what ``study.json`` holds.
    """
    first = record["trials"][0]["stage"]
    stage = [trial for trial in record["trials"] if trial["stage"] == first]
    greater, metric = record["greater_is_better"], record["metric"]
    confirmation = record["confirmation"]
    charts: dict[str, SpecDict | None] = {
        "history": history_chart(stage, metric, greater_is_better=greater, rows=first),
        "importances": importance_chart(record["importances"]),
        "parallel": parallel_chart(record["space"], stage, metric, greater_is_better=greater),
        "seeds": None if confirmation is None else seeds_chart(confirmation, metric),
    }
    slices = _slices(record, stage)
    drawn = {name: chart for name, chart in (charts | slices).items() if chart is not None}
    return render_page(
        "tuning.html",
        title=f"Tuning of {record['name']}",
        charts=drawn,
        record=record,
        sentences={name: chart["description"] for name, chart in drawn.items()},
        slices=[(name, name.removeprefix("slice-")) for name in slices if name in drawn],
        verdict=_verdict(record),
        lead=_lead(record),
        settings=settings_table(record),
        scientific=scientific_table(record),
        trials=trials_table(record),
        seeds=None if confirmation is None else seeds_table(confirmation),
        failures=failures(record),
    )


def _slices(record: Record, stage: Sequence[Mapping[str, Any]]) -> dict[str, SpecDict | None]:
    importances = record["importances"]
    ordered = sorted(record["space"], key=lambda d: -importances.get(d["path"], 0.0))
    finished = [trial for trial in stage if trial["state"] == "complete"]
    pick = max if record["greater_is_better"] else min
    best = pick(finished, key=lambda trial: trial["value"])["place"] if finished else -1
    return {
        f"slice-{d['path']}": slice_chart(d, stage, record["metric"], best) for d in ordered[:MOST_SLICES]
    }


def _verdict(record: Record) -> tuple[str, str, str]:
    """A sign, a word and a sentence: whether the best settings are better than the default."""
    confirmation = record["confirmation"]
    if not record["best"]["settings"]:
        return "good", "Default", "No trial was better than the config as it is."
    if confirmation is None:
        return (
            "unknown",
            "Unconfirmed",
            "The best of many trials had luck too; without fresh seeds nobody knows how much (tune.seeds).",
        )
    sentence = confirmation["sentence"]
    return (
        SIGNS[confirmation["verdict"]],
        WORDS[confirmation["verdict"]],
        f"{sentence[0].upper()}{sentence[1:]}.",
    )


def _lead(record: Record) -> str:
    """What was done, in two sentences."""
    states = [trial["state"] for trial in record["trials"]]
    n = len(states)
    pruned, failed = states.count("pruned"), states.count("failed")
    rest = [f"{pruned} pruned" if pruned else "", f"{failed} failed" if failed else ""]
    beside = ", ".join(part for part in rest if part)
    settings = len(record["space"])
    trained = sum(trial["trained"] or 0.0 for trial in record["trials"])
    return (
        f"{n} trials over {settings} setting{'s' if settings > 1 else ''}"
        f"{f' ({beside})' if beside else ''}, {trained:,.0f} s of training, compared by {record['metric']} "
        "on the validation part. The test part was not opened."
    )


def settings_table(record: Record) -> Table:
    """The settings with their ranges, the default and the best value."""
    best, importances = record["best"], record["importances"]
    edges = {border["path"] for border in record["borders"]}
    rows = [
        [
            d["path"],
            d["role"],
            d["words"],
            _cell(d["default"]),
            _cell(best["params"][d["path"]]) + (" (at the end of its range)" if d["path"] in edges else ""),
            importances.get(d["path"]),
        ]
        for d in sorted(record["space"], key=lambda d: -importances.get(d["path"], 0.0))
    ]
    columns = [
        Column("setting"),
        Column("role", help="scientific settings are compared, nuisance settings only tuned"),
        Column("range"),
        Column("default"),
        Column("best"),
        Column("importance", "bar", help="share of the variance of the scores that it explains (fANOVA)"),
    ]
    return Table("The settings that were tuned", columns, rows)


def scientific_table(record: Record) -> Table | None:
    """The best that each value of the scientific settings reached."""
    if not record["scientific"]:
        return None
    paths = list(record["scientific"][0]["values"])
    rows = [
        [
            *(_cell(row["values"][path]) for path in paths),
            row["value"],
            row["finished"],
            _settings(row["settings"], without=paths),
        ]
        for row in record["scientific"]
    ]
    columns = [
        *(Column(path) for path in paths),
        Column(f"best {record['metric']}", "score"),
        Column("finished trials", "count"),
        Column("with"),
    ]
    return Table("Each value with the nuisance settings that suit it best", columns, rows)


def seeds_table(confirmation: Mapping[str, Any]) -> Table:
    """Default and winner over the fresh seeds."""
    change = confirmation["difference"]
    interval = None if change["low"] is None else (change["low"], change["high"])
    rows: list[list[Any]] = [
        ["default", confirmation["of_default"]["mean"], confirmation["of_default"]["se"], None, None, None],
        [
            "winner",
            confirmation["of_winner"]["mean"],
            confirmation["of_winner"]["se"],
            change["mean"],
            interval,
            change["p"],
        ],
    ]
    columns = [
        Column("settings"),
        Column("mean", "score"),
        Column("SE", "score", help="standard error over the seeds"),
        Column("difference", "change", help="the mean of the paired differences"),
        Column("95 % interval", "interval", help="Student's t over the pairs"),
        Column("p", "number"),
    ]
    return Table(f"On {len(confirmation['seeds'])} fresh seeds, in pairs", columns, rows)


def trials_table(record: Record) -> Table:
    """Every trial."""
    several = len({trial["stage"] for trial in record["trials"]}) > 1
    rows = [
        [
            trial["place"] + 1,
            *([trial["stage"]] if several else []),
            PHASES.get(trial["phase"], trial["phase"]),
            trial["state"] + (f", try {trial['tries']}" if trial["tries"] > 1 else ""),
            trial["value"],
            trial["seconds"],
            _settings(trial["settings"]),
        ]
        for trial in record["trials"]
    ]
    columns = [
        Column("trial", "count"),
        *([Column("rows")] if several else []),
        Column("phase"),
        Column("state"),
        Column(record["metric"], "score"),
        Column("seconds", "number"),
        Column("settings", "excerpt"),
    ]
    return Table("All trials", columns, rows)


def failures(record: Record) -> list[tuple[str, str]]:
    """Trials that came to nothing, with the reason."""
    return [
        (f"trial {trial['place'] + 1}", trial["why"] or "unknown")
        for trial in record["trials"]
        if trial["state"] == "failed"
    ]


def _settings(settings: Mapping[str, Any] | None, without: Sequence[str] = ()) -> str:
    if settings is None:
        return "unknown"
    shown = [f"{path} = {_cell(value)}" for path, value in settings.items() if path not in without]
    return ", ".join(shown) or "as the config has them"


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.4g}" if isinstance(value, float) else str(value)

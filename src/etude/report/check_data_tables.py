"""The tables of a checkup's page, made from the evidence of its sections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from etude.data.profile import percent
from etude.report.page import Column, Table

MOST_ROWS = 200
"""Rows of a table."""

PARTS = ("train", "validation", "test")


def tables_of(evidence: Mapping[str, Any]) -> dict[str, list[Table]]:
    """The tables of each section."""
    return {
        "schema": _schema_tables(evidence["schema"]),
        "labels": _label_tables(evidence.get("labels", {})),
        "co-occurrence": _pair_tables(evidence.get("co-occurrence", {})),
        "lengths": _length_tables(evidence.get("lengths", {})),
        "duplicates": _duplicate_tables(evidence.get("duplicates", {})),
        "leaks": _leak_tables(evidence.get("leaks", {})),
        "groups": _group_tables(evidence.get("groups", {})),
        "drift": _drift_tables(evidence.get("drift", {})),
        "noise": _noise_tables(evidence.get("noise", {})),
    }


def _table(caption: str, columns: Sequence[Column], rows: Sequence[Sequence[Any]]) -> list[Table]:
    """The table of at most :data:`MOST_ROWS` rows, or none where there are no rows."""
    if not rows:
        return []
    more = len(rows) - MOST_ROWS
    left_out = f"{more:,} more rows are not shown; --json lists all of them." if more > 0 else ""
    return [Table(caption, columns, rows[:MOST_ROWS], left_out)]


def _schema_tables(found: Mapping[str, Any]) -> list[Table]:
    faults = [(f["part"], f["row"], f["column"], _ending(f["sentence"])) for f in found["faults"]]
    columns = [
        (
            file["part"],
            file["file"],
            c["name"],
            ", ".join(c["types"]) or "nothing",
            c["nulls"],
            c["blanks"],
            c["distinct"],
        )
        for file in found["files"]
        for c in file["columns"]
    ]
    return [
        *_table(
            "What cannot be used",
            [
                Column("Part"),
                Column("Row", "count"),
                Column("Column", "label"),
                Column("Fault", "excerpt"),
            ],
            faults,
        ),
        *_table(
            "Columns",
            [
                Column("Part"),
                Column("File"),
                Column("Column", "label"),
                Column("Holds", help="Kinds of cells, the most frequent first"),
                Column("Nulls", "count", "Cells that hold nothing"),
                Column("Blank", "count", "Texts of white space only"),
                Column("Distinct", "count"),
            ],
            columns,
        ),
    ]


def _ending(sentence: str) -> str:
    """A sentence on its own: with a full stop."""
    return sentence if sentence.endswith(".") else f"{sentence}."


def _label_tables(found: Mapping[str, Any]) -> list[Table]:
    counts = found.get("counts", [])
    parts = [part for part in PARTS if counts and part in counts[0]]
    rows = sorted(([row["label"], *(row[part] for part in parts)] for row in counts), key=lambda row: -row[1])
    return _table(
        "Rows of each label", [Column("Label", "label"), *(Column(p.title(), "count") for p in parts)], rows
    )


def _pair_tables(found: Mapping[str, Any]) -> list[Table]:
    columns = [
        Column("Label", "label"),
        Column("And", "label"),
        Column("Rows", "count"),
        Column("Lift", "number", "How many times as often as if they were independent"),
    ]
    pairs = [(p["first"], p["second"], p["rows"], p["lift"]) for p in found.get("pairs", [])]
    return _table("Labels that share the most training rows", columns, pairs)


def _length_tables(found: Mapping[str, Any]) -> list[Table]:
    rows = [
        (
            part,
            *(lengths["quantiles"][q] for q in ("0.5", "0.9", "0.99", "1")),
            lengths["cut"]["rows"],
            percent(lengths["cut"]["row_share"]),
            percent(lengths["cut"]["token_share"]),
            percent(lengths["unknown_share"]),
        )
        for part, lengths in found.get("parts", {}).items()
    ]
    columns = [
        Column("Part"),
        Column("Median", "count"),
        Column("90 %", "count"),
        Column("99 %", "count"),
        Column("Longest", "count"),
        Column("Cut texts", "count", "Texts that lose their end"),
        Column("of texts"),
        Column("Cut tokens", help="The share of all tokens that is lost"),
        Column("Unknown", help="The share of tokens that the tokenizer does not know"),
    ]
    return _table("Tokens of a text", columns, rows)


def _listed(labels: Sequence[str]) -> str:
    return ", ".join(labels) or "no label"


def _duplicate_tables(found: Mapping[str, Any]) -> list[Table]:
    contradictions = [
        (number, row["row"], row["text"], _listed(row["labels"]))
        for number, group in enumerate(found.get("contradictions", []), start=1)
        for row in group
    ]
    near = [
        (pair["similarity"], row["row"], row["text"], _listed(row["labels"]))
        for pair in sorted(found.get("near_pairs_of_other_labels", []), key=lambda pair: -pair["similarity"])
        for row in pair["rows"]
    ]
    place = Column("Row", "count", "Row or line of the training file")
    text, labels = Column("Text", "excerpt"), Column("Labels", "excerpt")
    return [
        *_table(
            "The same text with different labels",
            [Column("Group", "count"), place, text, labels],
            contradictions,
        ),
        *_table(
            "Nearly the same text with different labels",
            [Column("Similarity", "score"), place, text, labels],
            near,
        ),
    ]


def _leak_tables(found: Mapping[str, Any]) -> list[Table]:
    rows = [
        (number, leak["similarity"], f"{part} {row['row']:,}", row["text"], _listed(row["labels"]))
        for number, leak in enumerate(found.get("rows", []), start=1)
        for part, row in ((part, leak[part]) for part in PARTS if part in leak)
    ]
    columns = [
        Column("Pair", "count"),
        Column("Similarity", "score", "1 is word for word, but for case and white space"),
        Column("Row", help="The part, and the row or line of its file"),
        Column("Text", "excerpt"),
        Column("Labels", "excerpt"),
    ]
    return _table("Rows of one part that another holds", columns, rows)


def _group_tables(found: Mapping[str, Any]) -> list[Table]:
    tables = []
    for name in ("validation", "test"):
        shared = found.get(f"groups_shared_with_{name}", [])
        columns = [Column("Group", "label"), Column("Train", "count"), Column(name.title(), "count")]
        tables += _table(
            f"Groups in training and {name}", columns, [(s["group"], s["train"], s[name]) for s in shared]
        )
    return tables


def _drift_tables(found: Mapping[str, Any]) -> list[Table]:
    tables = []
    for name, drift in found.items():
        rows = [
            (
                clue["name"],
                "share of rows" if clue["kind"] == "word" else "mean",
                clue["first"],
                clue["second"],
                percent(clue["share"]),
            )
            for clue in drift["clues"]
        ]
        columns = [
            Column("Clue", "label"),
            Column("Figure"),
            Column("Train", "number"),
            Column(name.title(), "number"),
            Column("Share", help="Of the gap between the parts' mean scores"),
        ]
        auc = drift["auc"]
        caption = (
            f"What tells training from {name} rows apart, the strongest first; AUC {auc['value']:.3f} "
            f"[{auc['low']:.3f}, {auc['high']:.3f}] on {sum(drift['rows'].values()):,} rows"
        )
        tables += _table(caption, columns, rows)
    return tables


def _noise_tables(found: Mapping[str, Any]) -> list[Table]:
    rows = list(enumerate(found.get("scores", []), start=1))
    return _table(
        f"Runs of {found.get('model', 'a model')}",
        [Column("Run", "count"), Column(found.get("metric", ""), "score")],
        rows,
    )

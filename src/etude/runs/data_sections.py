"""What the figures of a data set mean: for each question the answer in words, with its evidence.

The limits at which something asks for a look, or is unsafe, are the constants below; a sentence always
names the figure that was compared with them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etude.data.profile import (
    Column,
    Tokens,
    co_occurrence,
    cut_at,
    histogram,
    imbalance,
    labels_per_row,
    percent,
    top_pairs,
)
from etude.data.salvage import Fault
from etude.data.verdicts import Remark, Section
from etude.evaluation.trust import share_error
from etude.runs.data_parts import Parts

FEW_ROWS = 10
"""Below so many rows one row moves a label's recall by more than 10 points, and little can be learned."""

TINY_PART, SMALL_ERROR = 10, 0.02
"""A validation part of fewer rows says nothing; one whose score has a larger standard error, little."""

IMBALANCE = 20.0
"""How often the commonest label may be as frequent as the rarest before it is worth a technique."""

SHIFT = 0.1
"""The share of rows that would need another label for validation to have the shares of training."""

CUT = 0.05
"""The share of texts that may lose their end, and of all tokens that may be lost with them."""

UNKNOWN_TOKENS = 0.05
"""The share of tokens that the tokenizer need not know."""

UNREADABLE = 0.01
"""The share of texts of which the tokenizer need not know anything."""

MOST_LABELS_IN_MATRIX = 50
QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)


def schema_section(parts: Parts, why_guessed: Sequence[str] = ()) -> Section:
    """Can every row be used?

    Args:
        parts: the data.
        why_guessed: why columns were chosen, where no config says so.
    """
    rows = sum(part.rows for part in parts.found.values())
    if parts.faults:
        n_rows = len({(f.file, f.row) for f in parts.faults if f.row is not None})
        where = ", ".join(dict.fromkeys(fault.file for fault in parts.faults))
        what = [f"{n_rows:,} row(s) of {where} cannot be used"] if n_rows else []
        whole = [fault.sentence for fault in parts.faults if fault.row is None]
        remarks = [
            Remark("unsafe", f"{sentence}.", "Mend or remove what is listed; training refuses such data.")
            for sentence in [*what, *whole]
        ]
    else:
        remarks = [Remark("safe", f"All {rows:,} rows can be used.")]
    evidence = {
        "files": [
            {
                "part": name,
                "file": file.path,
                "rows": file.rows,
                "columns": [_column(c) for c in file.columns],
            }
            for name, file in parts.files.items()
        ],
        "faults": [fault.to_json() for fault in parts.faults],
    }
    notes = [*(f"{note[0].upper()}{note[1:]}." for note in parts.notes), *why_guessed]
    return Section("schema", "Can every row be used?", remarks, evidence, notes)


def _column(column: Column) -> dict[str, Any]:
    return asdict(column) | {"types": list(column.types)}


def label_section(parts: Parts) -> Section:
    """Are there enough rows of every label, in every part?"""
    question = "Are there enough rows of every label?"
    task = parts.task
    if task is None:
        return Section("labels", question, [Remark("unsafe", "The labels make no task; see the faults.")])
    counts = {name: part.truth.sum(axis=0).astype(int) for name, part in parts.found.items()}
    train = counts["train"]
    remarks = [
        *_absent_labels(task.labels, counts),
        *_rare_labels(task.labels, counts),
        *_uneven_labels(task.labels, train),
        *_shifted_labels(parts),
        *_small_validation(parts),
    ]
    if not remarks:
        n_fewest = int(train.min())
        remarks.append(Remark("safe", f"Every label has at least {n_fewest:,} training rows."))
    without = {name: int((~part.truth.any(axis=1)).sum()) for name, part in parts.found.items()}
    evidence = {
        "counts": [
            {"label": label} | {name: int(found[c]) for name, found in counts.items()}
            for c, label in enumerate(task.labels)
        ],
        "imbalance": imbalance(train),
        "rows_without_label": without,
    }
    return Section("labels", question, remarks, evidence)


def _absent_labels(labels: Sequence[str], counts: Mapping[str, NDArray[Any]]) -> list[Remark]:
    remarks = []
    missing = np.flatnonzero(counts["train"] == 0)
    if len(missing):
        remarks.append(
            Remark(
                "unsafe",
                f"{named(labels, missing)} no training row, and cannot be learned.",
                "Add training rows, or leave the label out.",
            )
        )
    for name in ("validation", "test"):
        if name not in counts:
            continue
        absent = np.flatnonzero((counts[name] == 0) & (counts["train"] > 0))
        if len(absent):
            remarks.append(
                Remark(
                    "look",
                    f"{named(labels, absent)} no {name} row, so that nothing can be measured of it there.",
                    "Add rows of it, or make the part larger." if name == "validation" else "",
                )
            )
    return remarks


def _rare_labels(labels: Sequence[str], counts: Mapping[str, NDArray[Any]]) -> list[Remark]:
    remarks = []
    train = counts["train"]
    rare = np.flatnonzero((train > 0) & (train < FEW_ROWS))
    if len(rare):
        remarks.append(
            Remark(
                "look",
                f"{named(labels, rare)} fewer than {FEW_ROWS} training rows, too few to learn from or to be "
                "spread over parts in proportion.",
                "Collect more rows of it, or merge it with a label that is like it.",
            )
        )
    held_out = counts.get("validation")
    if held_out is None:
        return remarks
    rare = np.flatnonzero((held_out > 0) & (held_out < FEW_ROWS))
    if len(rare):
        remarks.append(
            Remark(
                "look",
                f"{named(labels, rare)} fewer than {FEW_ROWS} validation rows: one row moves its recall by "
                f"{100 / int(held_out[rare].max()):.0f} points or more.",
                "Read the scores of single labels with their intervals, or use data.folds.",
            )
        )
    return remarks


def _uneven_labels(labels: Sequence[str], train: NDArray[Any]) -> list[Remark]:
    ratio = imbalance(train)
    if not ratio > IMBALANCE:
        return []
    present = np.flatnonzero(train)
    most, fewest = int(train.argmax()), int(present[train[present].argmin()])
    return [
        Remark(
            "look",
            f"The commonest label {labels[most]!r} has {ratio:,.0f} times the training rows of the rarest, "
            f"{labels[fewest]!r} ({train[most]:,} and {train[fewest]:,}).",
            "Judge by f1_macro or balanced_accuracy, and try class_weights or weighted_sampling.",
        )
    ]


def _shifted_labels(parts: Parts) -> list[Remark]:
    """Whether validation has the labels in other shares than training, beyond what drawing rows does.

    The distance of the shares is compared with what it would be on average if both parts were drawn from
    the same rows. The test part is left alone: how frequent its labels are is nothing to be fitted to.
    """
    one, other = parts.found["train"], parts.found.get("validation")
    if other is None or not one.rows or not other.rows:
        return []
    first, second = one.truth.mean(axis=0), other.truth.mean(axis=0)
    pooled = (one.truth.sum(axis=0) + other.truth.sum(axis=0)) / (one.rows + other.rows)
    error = np.sqrt(pooled * (1 - pooled) * (1 / one.rows + 1 / other.rows))
    distance, chance = np.abs(first - second).sum() / 2, np.sqrt(2 / np.pi) * error.sum() / 2
    if distance < SHIFT or distance < 2 * chance:
        return []
    worst = int(np.abs(first - second).argmax())
    return [
        Remark(
            "look",
            f"Labels have other shares in validation than in training (distance {distance:.2f}, by chance "
            f"{chance:.2f}), most of all {parts.labels[worst]!r}: {percent(first[worst])} of the training "
            f"and {percent(second[worst])} of the validation rows.",
            "Draw validation rows as rows will come in use; thresholds are fitted to these shares.",
        )
    ]


def _small_validation(parts: Parts) -> list[Remark]:
    part = parts.found.get("validation")
    if part is None:
        return [
            Remark(
                "look",
                "There is no validation part, so that nothing shows when a model begins to overfit.",
                "Set data.validation to a fraction, a count or a file.",
            )
        ]
    error = share_error(0.8, max(part.rows, 1))
    sentence = (
        f"The validation part has {part.rows:,} rows: an accuracy of 0.80 on it has a standard error of "
        f"{error:.3f}, so that models closer than about {2.8 * error:.2f} cannot be told apart."
    )
    advice = "Make it larger, or use data.folds."
    if part.rows < TINY_PART:
        return [Remark("unsafe", sentence, advice)]
    return [
        Remark("look" if error > SMALL_ERROR else "safe", sentence, advice if error > SMALL_ERROR else "")
    ]


def together_section(parts: Parts) -> Section | None:
    """Which labels occur together? None for tasks of one label a row."""
    task = parts.task
    if task is None or task.kind != "multilabel":
        return None
    truth = parts.found["train"].truth
    matrix = co_occurrence(truth)
    n_labels = labels_per_row(truth)
    mean = float(truth.sum(axis=1).mean())
    remarks = [
        Remark("safe", f"A training row has {mean:.2f} labels on average, and {len(n_labels) - 1} at most.")
    ]
    if n_labels[0] > 0.5 * len(truth):
        remarks.append(
            Remark(
                "look",
                f"{n_labels[0]:,} of {len(truth):,} training rows have no label at all.",
                "Check that it means 'none of them', and not 'not yet labelled'.",
            )
        )
    remarks += _implied(matrix, task.labels)
    evidence: dict[str, Any] = {
        "labels_per_row": n_labels,
        "pairs": [asdict(pair) for pair in top_pairs(matrix, task.labels, len(truth), most=20)],
    }
    if task.n_classes <= MOST_LABELS_IN_MATRIX:
        evidence["matrix"] = matrix.tolist()
    return Section("co-occurrence", "Which labels occur together?", remarks, evidence)


def _implied(matrix: NDArray[np.int64], labels: Sequence[str]) -> list[Remark]:
    """Labels that never occur without another one."""
    rows = np.diag(matrix)
    always = (matrix == rows[:, None]) & (rows[:, None] >= FEW_ROWS)
    np.fill_diagonal(always, val=False)
    remarks = []
    for a, b in np.argwhere(always)[:5].tolist():
        both = "and the other way round" if rows[a] == rows[b] else f"which has {rows[b]:,}"
        remarks.append(
            Remark(
                "look",
                f"None of the {rows[a]:,} rows of {labels[a]!r} is without {labels[b]!r}, {both}.",
                "If one follows from the other, derive it instead of learning it.",
            )
        )
    return remarks


def length_section(parts: Parts, tokens: Mapping[str, Tokens], max_length: int, why_guessed: str) -> Section:
    """Does cutting texts lose anything?

    Args:
        parts: the data.
        tokens: of each part.
        max_length: texts are cut to this many tokens.
        why_guessed: why the tokens are a guess; empty where a tokenizer counted them.
    """
    remarks = []
    notes = [f"Tokens are guessed from characters: {why_guessed}."] if why_guessed else []
    train = tokens["train"]
    cut = cut_at(train.lengths, max_length)
    much = max(cut.row_share, cut.token_share) > CUT
    longest = int(train.lengths.max())
    if cut.rows == 0:
        remarks.append(
            Remark("safe", f"Every training text fits into {max_length} tokens; the longest has {longest:,}.")
        )
    else:
        wide = int(np.quantile(train.lengths, 0.99))
        remarks.append(
            Remark(
                "look" if much else "safe",
                f"{cut.rows:,} training texts ({percent(cut.row_share)}) are longer than {max_length} tokens "
                f"and lose their end, {percent(cut.token_share)} of all tokens; the longest has {longest:,}.",
                f"backbone.max_length = {wide} would hold 99 of 100, if the backbone has the positions."
                if much
                else "",
            )
        )
    remarks += _unknown_tokens(train)
    evidence = {
        "max_length": max_length,
        "guessed": bool(why_guessed),
        "parts": {name: _lengths(found, max_length) for name, found in tokens.items()},
        "histogram": asdict(histogram(np.concatenate([found.lengths for found in tokens.values()]))),
    }
    return Section("lengths", "Does cutting long texts lose anything?", remarks, evidence, notes)


def _unknown_tokens(tokens: Tokens) -> list[Remark]:
    share = float(tokens.unknown.sum() / max(tokens.lengths.sum(), 1))
    blind = int((tokens.unknown >= np.maximum(tokens.lengths - 2, 1)).sum())
    if share <= UNKNOWN_TOKENS and blind <= UNREADABLE * len(tokens.lengths):
        return []
    unreadable = f"; of {blind:,} texts it knows nothing at all" if blind else ""
    return [
        Remark(
            "look",
            f"The tokenizer does not know {percent(share)} of the tokens of the training texts{unreadable}.",
            "Choose a backbone for this language and script.",
        )
    ]


def _lengths(tokens: Tokens, max_length: int) -> dict[str, Any]:
    return {
        "quantiles": {f"{q:g}": int(np.quantile(tokens.lengths, q)) for q in QUANTILES},
        "mean": float(tokens.lengths.mean()),
        "cut": asdict(cut_at(tokens.lengths, max_length)),
        "unknown_share": float(tokens.unknown.sum() / max(tokens.lengths.sum(), 1)),
    }


def named(labels: Sequence[str], chosen: NDArray[Any], most: int = 5) -> str:
    """Name some labels as the subject of a sentence, with its verb.

    >>> named(["a", "b", "c"], np.array([0, 2]))
    "2 labels ('a', 'c') have"
    >>> named(["a", "b", "c"], np.array([1]))
    "The label 'b' has"
    """
    names = [repr(labels[c]) for c in chosen[:most]]
    if len(chosen) == 1:
        return f"The label {names[0]} has"
    more = f" and {len(chosen) - most} more" if len(chosen) > most else ""
    return f"{len(chosen)} labels ({', '.join(names)}{more}) have"


def faults_in_words(faults: Sequence[Fault], most: int) -> list[str]:
    """The first sentences on what is wrong, and how many more there are."""
    said = [fault.sentence for fault in faults[:most]]
    return [*said, f"... and {len(faults) - most:,} more"] if len(faults) > most else said

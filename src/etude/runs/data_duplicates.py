"""What repeated rows mean: copies within the training part, and rows of it in the parts that judge it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from etude.core.observe import Reporter
from etude.data.duplicates import (
    Match,
    find_contradictions,
    find_exact_duplicates,
    find_near_duplicates,
    leaks_between,
)
from etude.data.profile import percent
from etude.data.verdicts import Remark, Section, Verdict
from etude.runs.data_parts import PartRows, Parts

NEAR = 0.8
"""The similarity from which two texts count as nearly the same."""

REPEATED = 0.05
"""The share of training rows that may be copies of others before it is worth a look."""

CONTRADICTED = 0.02
"""The share of training rows with the text of another and other labels, above which labels are unsafe."""

LEAKED, NEARLY_LEAKED = 0.01, 0.10
"""The share of held-out rows that training may hold, word for word and nearly, before a score is unsafe."""

_LONGEST = 300
"""Characters of a text that evidence keeps."""


def duplicate_section(parts: Parts, reporter: Reporter) -> Section:
    """Does the training part repeat or contradict itself?"""
    train = parts.found["train"]
    texts, labels = whole_texts(train), parts.labels
    copies = sum(len(rows) - 1 for rows in find_exact_duplicates(texts))
    names = [train.names(row, labels) for row in range(train.rows)]
    contradictions = find_contradictions(texts, names)
    with reporter.bar("looking for near duplicates", train.rows, "texts") as bar:
        near = [match for match in find_near_duplicates(texts, NEAR) if match[2] < 1.0]
        bar.advance(train.rows)
    opposed = [(i, j, s) for i, j, s in near if set(names[i]) != set(names[j])]
    remarks = [
        *_judge_copies(copies, train.rows),
        *_judge_contradictions(contradictions, train, names),
        *_judge_near(near, opposed),
    ]
    evidence = {
        "copies": copies,
        "contradictions": [
            [_row(train, row, texts[row], names[row]) for row in rows] for rows in contradictions
        ],
        "near_pairs": len(near),
        "near_pairs_of_other_labels": [
            {"similarity": s, "rows": [_row(train, row, texts[row], names[row]) for row in (i, j)]}
            for i, j, s in opposed
        ],
    }
    return Section("duplicates", "Does the training part repeat or contradict itself?", remarks, evidence)


def whole_texts(part: PartRows) -> list[str]:
    """The text of each row, with the second one where there are pairs."""
    if part.pairs is None:
        return list(part.texts)
    return [f"{first}\n{second}" for first, second in zip(part.texts, part.pairs, strict=True)]


def _row(part: PartRows, row: int, text: str, names: Sequence[str]) -> dict[str, Any]:
    shown = text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ... ({len(text):,} characters)"
    return {"file": part.table.path, "row": part.table.numbers[row], "text": shown, "labels": list(names)}


def _judge_copies(copies: int, rows: int) -> list[Remark]:
    if not copies:
        return [Remark("safe", "No two training rows have the same text.")]
    sentence = f"{copies:,} of {rows:,} training rows ({percent(copies / rows)}) repeat the text of another."
    if copies <= REPEATED * rows:
        return [Remark("safe", sentence)]
    return [Remark("look", sentence, "Remove the copies, unless each of them should count.")]


def _judge_contradictions(
    groups: Sequence[Sequence[int]], train: PartRows, names: Sequence[Sequence[str]]
) -> list[Remark]:
    if not groups:
        return []
    involved = sum(map(len, groups))
    first = groups[0][0]
    other = next(row for row in groups[0] if set(names[row]) != set(names[first]))
    sentence = (
        f"{involved:,} training rows ({percent(involved / train.rows)}) have the text of another row and "
        f"other labels, as {train.table.line(first)} ({_labels(names[first])}) and {train.table.unit} "
        f"{train.table.numbers[other]} ({_labels(names[other])}): no model can be right about both."
    )
    verdict: Verdict = "unsafe" if involved > CONTRADICTED * train.rows else "look"
    return [Remark(verdict, sentence, "Decide on one labelling of each text.")]


def _labels(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names)) or "none"


def _judge_near(near: Sequence[Match], opposed: Sequence[Match]) -> list[Remark]:
    if not near:
        return []
    sentence = f"{len(near):,} pairs of training texts are nearly the same (similarity {NEAR} or more)"
    if not opposed:
        return [Remark("safe", f"{sentence}, with the same labels.")]
    return [
        Remark(
            "look",
            f"{sentence}, and {len(opposed):,} of them have other labels.",
            "Read these pairs: either the difference matters, or one label is wrong.",
        )
    ]


def leak_section(parts: Parts, reporter: Reporter) -> Section | None:
    """Do the parts that judge hold training rows? None where there is only one part."""
    found = parts.found
    compared = [("train", "validation"), ("train", "test"), ("validation", "test")]
    compared = [(a, b) for a, b in compared if a in found and b in found]
    if not compared:
        return None
    remarks: list[Remark] = []
    leaks: list[dict[str, Any]] = []
    counts: dict[str, Any] = {}
    for known, other in compared:
        texts = {name: whole_texts(found[name]) for name in (known, other)}
        with reporter.bar(f"looking for {other} rows in {known}", found[other].rows, "texts") as bar:
            matches = leaks_between(texts[known], texts[other], NEAR)
            bar.advance(found[other].rows)
        exact = sum(similarity == 1.0 for _, _, similarity in matches)
        near = len(matches) - exact
        counts[f"{known}-{other}"] = {"exact": exact, "near": near, "rows": found[other].rows}
        drawn = found[known].table.path == found[other].table.path
        remarks.append(_judge_leaks(known, other, exact, near, found[other].rows, drawn=drawn))
        leaks += [
            {
                "similarity": similarity,
                known: _row(found[known], i, texts[known][i], found[known].names(i, parts.labels)),
                other: _row(found[other], j, texts[other][j], found[other].names(j, parts.labels)),
            }
            for i, j, similarity in sorted(matches, key=lambda match: -match[2])
        ]
    return Section("leaks", "Are rows of one part in another?", remarks, {"counts": counts, "rows": leaks})


def _judge_leaks(known: str, other: str, exact: int, near: int, rows: int, *, drawn: bool) -> Remark:
    source = "training" if known == "train" else known
    if not exact and not near:
        return Remark("safe", f"No {other} text is, or is nearly, a {source} text.")
    some = f"{exact:,} of {rows:,} {other} rows ({percent(exact / rows)}) have"
    same = some if exact else f"No {other} row has"
    nearly = f"and {near:,} ({percent(near / rows)}) nearly so" if near else "and none nearly so"
    sentence = f"{same} the text of a {source} row, {nearly}."
    mend = "remove the copies from the file" if drawn else "remove these rows from one of the parts"
    if exact > LEAKED * rows or near > NEARLY_LEAKED * rows:
        what = "The score there is too good" if known == "train" else "The test part is no longer unseen"
        return Remark("unsafe", sentence, f"{what}: {mend}.")
    if exact or near > LEAKED * rows:
        return Remark("look", sentence, f"{mend.capitalize()} if the score should be exact.")
    return Remark("safe", sentence)

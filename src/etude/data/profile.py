"""Measures of a data set before any training: its columns, its labels, the lengths of its texts.

Nothing is judged here; see :mod:`etude.runs.check_data` for what the figures mean. Shapes: N rows,
C labels.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etude.core.observe import Reporter
from etude.data.table import Table

_BATCH = 1024


@dataclass(frozen=True)
class Column:
    """What the cells of one column are.

    Attributes:
        name: the column.
        types: the kinds of cells in words, the most frequent first.
        nulls: cells that hold nothing.
        blanks: texts of white space only.
        distinct: different cells, nulls left out.
    """

    name: str
    types: tuple[str, ...]
    nulls: int
    blanks: int
    distinct: int


def describe_columns(table: Table) -> list[Column]:
    """Return the facts of every column.

    >>> table = Table("a.jsonl", {"text": ["a", " ", None], "n": [1, 1.5, 2]}, range(1, 4))
    >>> describe_columns(table)[0]
    Column(name='text', types=('text',), nulls=1, blanks=1, distinct=2)
    """
    return [_describe(name, table.column(name)) for name in table.columns]


def _describe(name: str, cells: Sequence[Any]) -> Column:
    present = [cell for cell in cells if not is_null(cell)]
    counts: dict[str, int] = {}
    for cell in present:
        kind = _kind(cell)
        counts[kind] = counts.get(kind, 0) + 1
    return Column(
        name=name,
        types=tuple(sorted(counts, key=lambda kind: -counts[kind])),
        nulls=len(cells) - len(present),
        blanks=sum(isinstance(cell, str) and not cell.strip() for cell in present),
        distinct=len({cell if isinstance(cell, Hashable) else repr(cell) for cell in present}),
    )


def is_null(cell: Any) -> bool:
    """Whether a cell holds nothing: null, or a number that is none."""
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def _kind(cell: Any) -> str:
    """The kind of a cell in words; a text that is a number says so, as csv files know no types."""
    match cell:
        case bool():
            return "true or false"
        case int() | float():
            return "number"
        case str():
            return "number as text" if _is_number(cell) else "text"
        case list() | tuple():
            return "list"
        case dict():
            return "mapping"
    return type(cell).__name__


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def percent(share: float) -> str:
    """Write a share with one digit, and a smaller one as more than nothing.

    >>> percent(0.1234), percent(0.0001), percent(0.0)
    ('12.3%', '<0.1%', '0%')
    """
    if 0 < share < 0.0005:
        return "<0.1%"
    return f"{share:.1%}" if share else "0%"


def imbalance(counts: NDArray[Any]) -> float:
    """Return how many times the commonest label is as frequent as the rarest that occurs.

    >>> imbalance(np.array([90, 10, 0]))
    9.0
    """
    present = counts[counts > 0]
    return float(present.max() / present.min()) if len(present) else math.nan


def co_occurrence(truth: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return how many rows have both of two labels, (C, C); the diagonal counts the rows of each.

    >>> co_occurrence(np.array([[True, True], [True, False]]))
    array([[2, 1],
           [1, 1]])
    """
    # In float32 the product is fast, and counts stay exact up to 2^24 rows.
    ones: NDArray[Any] = truth.astype(np.float32 if len(truth) < 2**24 else np.float64)
    return np.rint(ones.T @ ones).astype(np.int64)


def labels_per_row(truth: NDArray[np.bool_]) -> list[int]:
    """Return how many rows have no label, one, two, and so on.

    >>> labels_per_row(np.array([[True, True], [True, False]]))
    [0, 1, 1]
    """
    counts: list[int] = np.bincount(truth.sum(axis=1)).tolist()
    return counts


@dataclass(frozen=True)
class Pair:
    """Two labels that occur together: in how many rows, and how many times as often as by chance."""

    first: str
    second: str
    rows: int
    lift: float


def top_pairs(matrix: NDArray[np.int64], labels: Sequence[str], n_rows: int, most: int = 10) -> list[Pair]:
    """Return the pairs of labels that share the most rows.

    Args:
        matrix: (C, C) from :func:`co_occurrence`.
        labels: the C labels.
        n_rows: rows that were counted.
        most: pairs to return.

    >>> top_pairs(np.array([[2, 1], [1, 1]]), ["joy", "love"], n_rows=4)
    [Pair(first='joy', second='love', rows=1, lift=2.0)]
    """
    first, second = np.triu_indices(len(labels), k=1)
    rows = matrix[first, second]
    order = np.argsort(-rows, kind="stable")[:most]
    chosen = [(int(first[i]), int(second[i]), int(rows[i])) for i in order if rows[i] > 0]
    return [
        Pair(labels[a], labels[b], n, n * n_rows / float(matrix[a, a] * matrix[b, b])) for a, b, n in chosen
    ]


@dataclass(frozen=True)
class Tokens:
    """Tokens of N uncut texts.

    Attributes:
        lengths: (N,) tokens, special ones counted.
        unknown: (N,) tokens that stand for something the tokenizer does not know.
    """

    lengths: NDArray[np.int64]
    unknown: NDArray[np.int64]


def count_tokens(
    texts: Sequence[str], pairs: Sequence[str] | None, tokenizer: Any, reporter: Reporter
) -> Tokens:
    """Count the tokens of texts that nothing cuts.

    Args:
        texts: (N,) the texts.
        pairs: (N,) second texts, or none.
        tokenizer: a Hugging Face tokenizer.
        reporter: shows a bar.
    """
    lengths, unknown = (np.zeros(len(texts), dtype=np.int64) for _ in range(2))
    unknown_id = -1 if tokenizer.unk_token_id is None else tokenizer.unk_token_id
    with reporter.bar("counting tokens", len(texts), "texts") as bar:
        for start in range(0, len(texts), _BATCH):
            stop = min(start + _BATCH, len(texts))
            second = None if pairs is None else list(pairs[start:stop])
            ids = _tokenize(list(texts[start:stop]), second, tokenizer)
            lengths[start:stop] = [len(row) for row in ids]
            unknown[start:stop] = [row.count(unknown_id) for row in ids]
            bar.advance(stop - start)
    return Tokens(lengths, unknown)


def _tokenize(texts: list[str], pairs: list[str] | None, tokenizer: Any) -> list[list[int]]:
    if tokenizer.is_fast:
        backend = tokenizer.backend_tokenizer
        backend.no_padding()
        backend.no_truncation()
        batch = texts if pairs is None else list(zip(texts, pairs, strict=True))
        return [encoding.ids for encoding in backend.encode_batch_fast(batch)]
    both = (texts,) if pairs is None else (texts, pairs)
    rows: list[list[int]] = tokenizer(*both, truncation=False, verbose=False)["input_ids"]
    return rows


def estimate_tokens(texts: Sequence[str]) -> Tokens:
    """Guess the tokens of texts where there is no tokenizer: 4 ASCII characters, or 1.5 others, a token.

    >>> estimate_tokens(["where is my parcel"]).lengths
    array([7])
    """
    lengths = np.empty(len(texts), dtype=np.int64)
    for row, text in enumerate(texts):
        n_ascii = len(text.encode("ascii", "ignore"))
        lengths[row] = 2 + math.ceil(n_ascii / 4 + (len(text) - n_ascii) / 1.5)
    return Tokens(lengths, np.zeros_like(lengths))


@dataclass(frozen=True)
class Cut:
    """What a greatest length takes from N texts.

    Attributes:
        rows: texts that lose something.
        row_share: the share of texts that lose something.
        token_share: the share of all tokens that is lost.
    """

    rows: int
    row_share: float
    token_share: float


def cut_at(lengths: NDArray[np.int64], max_length: int) -> Cut:
    """Return what cutting texts of these lengths (N,) loses.

    >>> cut_at(np.array([5, 10, 25]), 20)
    Cut(rows=1, row_share=0.3333333333333333, token_share=0.125)
    """
    over = lengths > max_length
    lost = (lengths - max_length)[over].sum()
    return Cut(int(over.sum()), float(over.mean()), float(lost / lengths.sum()))


@dataclass(frozen=True)
class Histogram:
    """Counts of lengths between edges; the first edge is the shortest and the last above the longest."""

    edges: list[int]
    counts: list[int]


def histogram(lengths: NDArray[np.int64], n_bins: int = 40) -> Histogram:
    """Count lengths in at most ``n_bins`` bins of whole numbers.

    Where few texts are much longer than all others the bins grow by a constant factor, so that both can
    be seen.

    >>> histogram(np.array([1, 2, 2, 3]))
    Histogram(edges=[1, 2, 3, 4], counts=[1, 2, 1])
    """
    low, high = int(lengths.min()), int(lengths.max()) + 1
    if high - low <= n_bins:
        edges = np.arange(low, high + 1)
    elif high > 5 * float(np.quantile(lengths, 0.95)):
        edges = np.unique(np.geomspace(max(low, 1), high, n_bins + 1).round().astype(np.int64))
        edges[0] = low
    else:
        edges = np.arange(low, high + (width := -(-(high - low) // n_bins)), width)
    counts, _ = np.histogram(lengths, edges)
    return Histogram(edges.tolist(), counts.tolist())


def shared_values(first: Sequence[Hashable], second: Sequence[Hashable]) -> dict[Hashable, tuple[int, int]]:
    """Return the values that two parts share, with the rows that each has of them.

    >>> shared_values(["ann", "ann", "bo"], ["ann", "cy"])
    {'ann': (2, 1)}
    """
    shared = set(first) & set(second)
    counts: dict[Hashable, list[int]] = {value: [0, 0] for value in first if value in shared}
    for side, values in enumerate((first, second)):
        for value in values:
            if value in shared:
                counts[value][side] += 1
    return {value: (a, b) for value, (a, b) in counts.items()}

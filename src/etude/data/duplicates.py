"""Duplicates: rows that say the same, word for word or nearly, within a part and across parts.

Two texts are near duplicates where their sets of character 5-grams are: where the Jaccard similarity,
the share of 5-grams that both have among those that either has, reaches a threshold. Texts are folded
first: lower case, and one space for any white space. Nothing is drawn at random; how the pairs are found,
and of a template's many copies not all, stands in :mod:`etude.data.similarity_join`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from etude.data.similarity_join import Match, jaccard, join_two, join_within, shingles
from etude.errors import DataError

__all__ = [
    "Match",
    "find_contradictions",
    "find_exact_duplicates",
    "find_near_duplicates",
    "fold_text",
    "group_matches",
    "leaks_between",
    "similarity",
]


def fold_text(text: str) -> str:
    """Return the text without what does not matter: case, and how white space is written.

    >>> fold_text("  Where IS  my parcel ")
    'where is my parcel'
    """
    return " ".join(text.casefold().split())


def find_exact_duplicates(texts: Sequence[str]) -> list[list[int]]:
    """Return the groups of rows, two at least, whose folded texts are equal, in the order of their firsts.

    >>> find_exact_duplicates(["Hello", "bye", "hello ", "BYE", "so"])
    [[0, 2], [1, 3]]
    """
    return [rows for rows in _rows_by_text(texts).values() if len(rows) > 1]


def find_contradictions(texts: Sequence[str], labels: Sequence[Sequence[str]]) -> list[list[int]]:
    """Return those groups of exact duplicates whose rows do not all have the same labels.

    Args:
        texts: (N,).
        labels: (N,) the labels of each row, whose order means nothing.

    >>> find_contradictions(["a b", "A b", "c", "c"], [["x"], ["y"], ["x"], ["x"]])
    [[0, 1]]
    """
    return [
        rows for rows in find_exact_duplicates(texts) if len({frozenset(labels[row]) for row in rows}) > 1
    ]


def find_near_duplicates(texts: Sequence[str], threshold: float = 0.8) -> list[Match]:
    """Return pairs of rows whose texts are nearly the same.

    Rows of equal folded texts are paired with the first of them, at a similarity of 1, and only that first
    one is compared with other texts; :func:`group_matches` puts them together again.

    Args:
        texts: (N,).
        threshold: the least Jaccard similarity, above 0 and at most 1.

    Returns:
        (row, later row, similarity), ascending.

    Raises:
        DataError: the threshold is out of bounds.

    >>> find_near_duplicates(["where is my parcel now", "Where is my parcel now?", "bye", "BYE"], 0.8)
    [(0, 1, 0.9473684210526315), (2, 3, 1.0)]
    """
    _check_threshold(threshold)
    by_text = _rows_by_text(texts)
    distinct, firsts = list(by_text), [rows[0] for rows in by_text.values()]
    matches = [(rows[0], row, 1.0) for rows in by_text.values() for row in rows[1:]]
    # The first rows ascend, as a dictionary keeps the order in which its keys came.
    matches += [(firsts[i], firsts[j], similar) for i, j, similar in join_within(distinct, threshold)]
    return sorted(matches)


def leaks_between(
    train_texts: Sequence[str], other_texts: Sequence[str], threshold: float = 0.8
) -> list[Match]:
    """Return the rows of another part that training nearly or exactly holds, each with its closest row.

    Args:
        train_texts: (N,) texts of the training part.
        other_texts: (M,) texts of the part that is to measure it.
        threshold: the least Jaccard similarity, above 0 and at most 1.

    Returns:
        (training row, other row, similarity), one for each other row that leaks, ascending by it; of
        several training rows the most similar, of these the first.

    Raises:
        DataError: the threshold is out of bounds.

    >>> leaks_between(["where is my parcel now", "pay"], ["hello", "PAY", "where is my parcel, now"], 0.6)
    [(1, 1, 1.0), (0, 2, 0.6086956521739131)]
    """
    _check_threshold(threshold)
    known, others = _rows_by_text(train_texts), _rows_by_text(other_texts)
    best = {text: (known[text][0], 1.0) for text in others if text in known}
    train, rest = list(known), [text for text in others if text not in known]
    for i, j, similar in sorted(join_two(train, rest, threshold)):
        if similar > best.get(rest[j], (0, 0.0))[1]:
            best[rest[j]] = (known[train[i]][0], similar)
    return sorted(
        ((best[text][0], row, best[text][1]) for text in best for row in others[text]),
        key=lambda match: match[1],
    )


def group_matches(matches: Sequence[Match]) -> list[list[int]]:
    """Return the rows that hang together by matches, each group ascending, in the order of their firsts.

    >>> group_matches([(0, 3, 0.9), (1, 2, 1.0), (3, 5, 0.8)])
    [[0, 3, 5], [1, 2]]
    """
    parent: dict[int, int] = {}

    def root(row: int) -> int:
        while parent.setdefault(row, row) != row:
            parent[row] = row = parent[parent[row]]
        return row

    for first, second, _ in matches:
        parent[max(root(first), root(second))] = min(root(first), root(second))
    groups: dict[int, list[int]] = defaultdict(list)
    for row in sorted(parent):
        groups[root(row)].append(row)
    return list(groups.values())


def similarity(first: str, second: str) -> float:
    """Return the Jaccard similarity of the 5-grams of two texts, from 0 to 1.

    >>> similarity("Hello  there", "hello there"), similarity("hello", "world")
    (1.0, 0.0)
    """
    return jaccard(shingles(fold_text(first)), shingles(fold_text(second)))


def _check_threshold(threshold: float) -> None:
    if not 0.0 < threshold <= 1.0:
        raise DataError(f"the threshold of near duplicates is {threshold} and must be above 0 and at most 1")


def _rows_by_text(texts: Sequence[str]) -> dict[str, list[int]]:
    """The rows of each folded text."""
    found: dict[str, list[int]] = {}
    for row, text in enumerate(texts):
        found.setdefault(fold_text(text), []).append(row)
    return found

"""Duplicates: rows that say the same, word for word or nearly, within a part and across parts.

Two texts are near duplicates where their sets of character 5-grams are: where the Jaccard similarity,
the share of 5-grams that both have among those that either has, reaches a threshold. Texts are folded
first: lower case, and one space for any white space. The search is an exact set-similarity join with
prefix filtering (Chaudhuri et al. 2006, "A primitive operator for similarity joins"; Bayardo et al. 2007,
"Scaling up all pairs similarity search"): with all 5-grams in one order, the rarest first, two sets can
only reach the threshold t if the first |x| - ceil(t |x|) + 1 of each have one in common. Pairs that do are
thinned out by their sizes and by a parity bitmap (Sandes et al. 2017, "Bitmap filter"), and what remains
is compared exactly. Nothing is drawn at random, and no pair is missed, with two exceptions, so that the
work does not grow with the square of a template's copies: where more than :data:`MOST_NEIGHBOURS` texts have
a rare 5-gram in common, each is compared with so many of them, next to it in size; and a text that has been
paired :data:`MOST_MATCHES` times is left at that, but for others that have not.

Memory is a few times that of the texts. Shapes: N texts, S 5-grams of all texts of a chunk.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from etude.errors import DataError

N_GRAM = 5
"""Characters of a shingle: long enough to be telling, short enough for a message of one line."""

MOST_NEIGHBOURS = 64
"""How many texts with the same rare 5-gram a text is compared with."""

MOST_MATCHES = 10
"""How many near duplicates of a text are looked for."""

_CHUNK = 500_000
"""Characters that are in work at once."""

_COUNT_BITS = 20
"""The 5-grams are counted in 2 ** 20 buckets; any order serves, and a bucket's count is a good one."""

_BITMAP_WORDS = 4
"""64-bit words of a text's parity bitmap."""

Ids = NDArray[np.int64]
Match = tuple[int, int, float]


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
    index = _Index.build(distinct, threshold)
    after = np.arange(len(index.keys)) + 1
    found = _search(index, index, after, index.last_of_size(index, threshold), threshold)
    # The first rows ascend, as a dictionary keeps the order in which its keys came.
    matches += [(firsts[i], firsts[j], similar) for i, j, similar in found]
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
    index, queries = _Index.build_two(train, rest, threshold)
    first, last = index.first_of_size(queries, threshold), index.last_of_size(queries, threshold)
    for i, j, similar in sorted(_search(index, queries, first, last, threshold)):
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
    return _jaccard(_shingles(fold_text(first)), _shingles(fold_text(second)))


def _check_threshold(threshold: float) -> None:
    if not 0.0 < threshold <= 1.0:
        raise DataError(f"the threshold of near duplicates is {threshold} and must be above 0 and at most 1")


def _rows_by_text(texts: Sequence[str]) -> dict[str, list[int]]:
    """The rows of each folded text."""
    found: dict[str, list[int]] = {}
    for row, text in enumerate(texts):
        found.setdefault(fold_text(text), []).append(row)
    return found


def _shingles(folded: str) -> set[str]:
    """The distinct 5-grams; of a shorter text, the text itself."""
    return {folded[i : i + N_GRAM] for i in range(max(len(folded) - N_GRAM + 1, 1))}


def _jaccard(first: set[str], second: set[str]) -> float:
    both = len(first & second)
    return both / (len(first) + len(second) - both)


@dataclass(frozen=True)
class _Index:
    """The rarest 5-grams of some texts, sorted by 5-gram and then by the size of the text's set.

    Attributes:
        folded: (N,) the texts.
        keys: (E,) the number of a 5-gram in the upper half, the size of the text's set in the lower.
        texts: (E,) the text that each entry is of.
        sizes: (N,) 5-grams of each text.
        bitmaps: (N, words) whether an odd number of its 5-grams falls on each bit.
    """

    folded: Sequence[str]
    keys: Ids
    texts: Ids
    sizes: Ids
    bitmaps: NDArray[np.uint64]

    @classmethod
    def build(cls, folded: Sequence[str], threshold: float) -> _Index:
        """The index of texts."""
        return cls._of(_prefixes(folded, _count(folded), threshold))[0]

    @classmethod
    def build_two(cls, one: Sequence[str], other: Sequence[str], threshold: float) -> tuple[_Index, _Index]:
        """Two indices that number their 5-grams alike."""
        counts = _count(one) + _count(other)
        first, second = cls._of(_prefixes(one, counts, threshold), _prefixes(other, counts, threshold))
        return first, second

    @classmethod
    def _of(cls, *prefixes: _Prefixes) -> list[_Index]:
        everything = np.concatenate([prefix.hashes for prefix in prefixes])
        numbers = np.unique(everything, return_inverse=True)[1].astype(np.int64)
        indices = []
        for prefix in prefixes:
            own, numbers = numbers[: len(prefix.hashes)], numbers[len(prefix.hashes) :]
            keys = (own << 32) | prefix.sizes[prefix.texts]
            order = np.lexsort((prefix.texts, keys))
            indices.append(cls(prefix.folded, keys[order], prefix.texts[order], prefix.sizes, prefix.bitmaps))
        return indices

    def first_of_size(self, queries: _Index, threshold: float) -> Ids:
        """For each entry of the queries, the first entry here with its 5-gram that is not too small."""
        least = np.ceil((queries.keys & 0xFFFFFFFF) * threshold - 1e-9).astype(np.int64)
        return np.searchsorted(self.keys, (queries.keys >> 32 << 32) | least, side="left")

    def last_of_size(self, queries: _Index, threshold: float) -> Ids:
        """For each entry of the queries, the place after the last entry here that is not too large."""
        most = np.floor((queries.keys & 0xFFFFFFFF) / threshold + 1e-9).astype(np.int64)
        return np.searchsorted(self.keys, (queries.keys >> 32 << 32) | most, side="right")


@dataclass(frozen=True)
class _Prefixes:
    """The rarest 5-grams of each text, as an :class:`_Index` sorts them."""

    folded: Sequence[str]
    hashes: NDArray[np.uint64]
    texts: Ids
    sizes: Ids
    bitmaps: NDArray[np.uint64]


def _prefixes(folded: Sequence[str], counts: Ids, threshold: float) -> _Prefixes:
    """The first 5-grams of each text, in the order from the rarest to the commonest."""
    hashes, texts = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    sizes = np.zeros(len(folded), np.int64)
    bitmaps = np.zeros((len(folded), _BITMAP_WORDS), np.uint64)
    for start, chunk in _chunks(folded):
        found, owner = _distinct_shingles(chunk, counts)
        size = np.bincount(owner, minlength=len(chunk))
        begins = np.cumsum(size) - size
        sizes[start : start + len(chunk)] = size
        bitmaps[start : start + len(chunk)] = _parity(found, begins)
        length = size - np.ceil(size * threshold - 1e-9).astype(np.int64) + 1
        rank = np.arange(len(found)) - begins[owner]
        kept = rank < length[owner]
        hashes.append(found[kept])
        texts.append(owner[kept] + start)
    return _Prefixes(folded, np.concatenate(hashes), np.concatenate(texts), sizes, bitmaps)


def _distinct_shingles(folded: Sequence[str], counts: Ids) -> tuple[NDArray[np.uint64], Ids]:
    """The distinct 5-grams of each text, sorted by text and from the rarest, and the text that each is of."""
    found, owner = _hash_shingles(folded)
    # One number holds the order: the count above, and a part of the hash to tell 5-grams apart.
    rarity = np.minimum(counts[_bucket(found)], 2**24 - 1).astype(np.uint64)
    found = (rarity << np.uint64(40)) | (found >> np.uint64(24))
    order = np.argsort(found)
    order = order[np.argsort(owner[order].astype(np.uint32), kind="stable")]
    found, owner = found[order], owner[order]
    fresh = np.ones(len(found), np.bool_)
    fresh[1:] = (found[1:] != found[:-1]) | (owner[1:] != owner[:-1])
    return found[fresh], owner[fresh]


def _chunks(folded: Sequence[str]) -> Iterator[tuple[int, Sequence[str]]]:
    """Stretches of texts of about as many characters, each with the number of its first."""
    ends = np.cumsum([max(len(text), N_GRAM) for text in folded])
    start = 0
    while start < len(folded):
        done = ends[start - 1] if start else 0
        stop = max(int(np.searchsorted(ends, done + _CHUNK, side="right")), start + 1)
        yield start, folded[start:stop]
        start = stop


def _hash_shingles(folded: Sequence[str]) -> tuple[NDArray[np.uint64], Ids]:
    """A 64-bit hash of each 5-gram (S,), and the text that it is of."""
    padded = [text.ljust(N_GRAM, "\0") for text in folded]  # a shorter text is one 5-gram
    codes = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), np.uint32)
    owner = np.repeat(np.arange(len(padded)), [len(text) for text in padded])
    n = max(len(codes) - N_GRAM + 1, 0)
    hashes = np.zeros(n, np.uint64)
    for k in range(N_GRAM):
        hashes = hashes * np.uint64(0x100000001B3) + codes[k : n + k]
    # The finaliser of SplitMix64 (Steele et al. 2014), since the sum above is no more than a number.
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    hashes ^= hashes >> np.uint64(31)
    whole = owner[:n] == owner[N_GRAM - 1 :][:n]
    return hashes[whole], owner[:n][whole]


def _bucket(hashes: NDArray[np.uint64]) -> Ids:
    return (hashes >> np.uint64(64 - _COUNT_BITS)).astype(np.int64)


def _count(folded: Sequence[str]) -> Ids:
    """How often the 5-grams of each bucket occur."""
    counts = np.zeros(2**_COUNT_BITS, np.int64)
    for _, chunk in _chunks(folded):
        counts += np.bincount(_bucket(_hash_shingles(chunk)[0]), minlength=len(counts))
    return counts


def _parity(hashes: NDArray[np.uint64], begins: Ids) -> NDArray[np.uint64]:
    """The bits (N, words) on which an odd number of a text's 5-grams falls."""
    bit = hashes & np.uint64(63)
    word = (hashes >> np.uint64(6)) & np.uint64(_BITMAP_WORDS - 1)
    columns = [
        np.bitwise_xor.reduceat(np.where(word == w, np.uint64(1) << bit, np.uint64(0)), begins)
        for w in range(_BITMAP_WORDS)
    ]
    return np.stack(columns, axis=1)


def _search(index: _Index, queries: _Index, first: Ids, last: Ids, threshold: float) -> list[Match]:
    """Return the pairs of a text of the index and one of the queries that reach the threshold.

    Each round compares every entry of the queries with one entry more of the index.

    Args:
        index: what is searched.
        queries: what is searched for.
        first: for each entry of the queries, the place of the first entry that it is compared with.
        last: the place after the last one.
        threshold: the least similarity.
    """
    matches: list[Match] = []
    seen = np.zeros(0, np.int64)
    n_matches = np.zeros(len(queries.sizes), np.int64)
    alive = np.flatnonzero(first < last)
    for step in range(MOST_NEIGHBOURS):
        wanting = n_matches[queries.texts[alive]] < MOST_MATCHES
        alive = alive[wanting & (first[alive] + step < last[alive])]
        if len(alive) == 0:
            break
        pairs = np.setdiff1d(_near_pairs(index, queries, first[alive] + step, alive, threshold), seen)
        seen = np.union1d(seen, pairs)
        matches += _verify(pairs, index, queries, threshold, n_matches)
    return matches


def _near_pairs(index: _Index, queries: _Index, places: Ids, entries: Ids, threshold: float) -> Ids:
    """Pairs of the texts of entries, each as one number, whose bitmaps do not rule them out."""
    one, other = index.texts[places], queries.texts[entries]
    # |x ^ y| is at least the bits that differ, and at most (1 - t) / (1 + t) of |x| + |y|.
    differing = np.bitwise_count(index.bitmaps[one] ^ queries.bitmaps[other]).sum(axis=1)
    total = index.sizes[one] + queries.sizes[other]
    near = differing <= (1 - threshold) / (1 + threshold) * total + 1e-9
    one, other = one[near], other[near]
    if index is queries:
        one, other = np.minimum(one, other), np.maximum(one, other)
    return one * len(queries.sizes) + other


def _verify(pairs: Ids, index: _Index, queries: _Index, threshold: float, n_matches: Ids) -> Iterator[Match]:
    """Yield the pairs that reach the threshold, each with its similarity, and count them in place."""
    previous, shingles = -1, set[str]()
    within = index is queries
    for pair in pairs.tolist():
        i, j = divmod(pair, len(queries.sizes))
        if n_matches[j] >= MOST_MATCHES and (not within or n_matches[i] >= MOST_MATCHES):
            continue
        if i != previous:
            previous, shingles = i, _shingles(index.folded[i])
        found = _jaccard(shingles, _shingles(queries.folded[j]))
        if found >= threshold:
            n_matches[j] += 1
            if within:
                n_matches[i] += 1
            yield i, j, found

"""A similarity join: all pairs of texts whose sets of character 5-grams are nearly the same.

The search is an exact join with prefix filtering (Chaudhuri et al. 2006, "A primitive operator for
similarity joins"; Bayardo et al. 2007, "Scaling up all pairs similarity search"): with all 5-grams in one
order, the rarest first, two sets x and y can only reach the Jaccard similarity t if the first
|x| - ceil(t |x|) + 1 of x and as many of y have one in common. Pairs that do are thinned out by their sizes
and by a parity bitmap (Sandes et al. 2017, "Bitmap filter"), and what remains is compared exactly.

No pair is missed, with two exceptions, so that the work does not grow with the square of a template's
copies: where more than :data:`MOST_NEIGHBOURS` texts have a rare 5-gram in common, each is compared with so
many of them, next to it in size; and a text that has been paired :data:`MOST_MATCHES` times is left at
that, but for others that have not. Memory is a few times that of the texts.

Shapes: N texts, S 5-grams of all texts of a chunk, E entries of an index.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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


def join_within(folded: Sequence[str], threshold: float) -> list[Match]:
    """Return the pairs of distinct texts (earlier, later, similarity) that reach the threshold.

    >>> join_within(["abcdefgh", "xyz", "abcdefg"], 0.7)
    [(0, 2, 0.75)]
    """
    index = _Index.build(folded, threshold)
    after = np.arange(len(index.keys)) + 1
    return _search(index, index, after, index.last_of_size(index, threshold), threshold)


def join_two(one: Sequence[str], other: Sequence[str], threshold: float) -> list[Match]:
    """Return the pairs of a text here and one there (here, there, similarity) that reach the threshold.

    >>> join_two(["xyz", "abcdefg"], ["abcdefgh"], 0.7)
    [(1, 0, 0.75)]
    """
    index, queries = _Index.build_two(one, other, threshold)
    first, last = index.first_of_size(queries, threshold), index.last_of_size(queries, threshold)
    return _search(index, queries, first, last, threshold)


def shingles(folded: str) -> set[str]:
    """Return the distinct 5-grams of a text; of a shorter one, the text itself."""
    return {folded[i : i + N_GRAM] for i in range(max(len(folded) - N_GRAM + 1, 1))}


def jaccard(first: set[str], second: set[str]) -> float:
    """Return the share of what both hold among what either holds.

    >>> jaccard({"a", "b"}, {"b", "c"}) == 1 / 3
    True
    """
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
    previous, own = -1, set[str]()
    within = index is queries
    for pair in pairs.tolist():
        i, j = divmod(pair, len(queries.sizes))
        if n_matches[j] >= MOST_MATCHES and (not within or n_matches[i] >= MOST_MATCHES):
            continue
        if i != previous:
            previous, own = i, shingles(index.folded[i])
        found = jaccard(own, shingles(queries.folded[j]))
        if found >= threshold:
            n_matches[j] += 1
            if within:
                n_matches[i] += 1
            yield i, j, found

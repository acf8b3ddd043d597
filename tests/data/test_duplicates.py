"""Duplicates: what the quick search finds is what a comparison of all pairs finds, in any script."""

import random
import time
from itertools import combinations

import pytest

from etude.data import similarity_join
from etude.data.duplicates import (
    find_contradictions,
    find_exact_duplicates,
    find_near_duplicates,
    fold_text,
    group_matches,
    leaks_between,
    similarity,
)
from etude.errors import DataError

SENTENCE = (
    "where is my parcel give me money back please now card lost abroad transfer failed twice top up pending "
    "why was i charged a fee how do passcode reset verify identity älter größer ευρώ 卡 在哪里 我的 包裹"
)
WORDS = SENTENCE.split()


def _corpus(n: int, seed: int) -> list[str]:
    """Sentences and edited copies of them."""
    draw = random.Random(seed)
    texts = [" ".join(draw.choices(WORDS, k=draw.randint(1, 14))) for _ in range(n)]
    for _ in range(n):
        words = draw.choice(texts).split()
        words[draw.randrange(len(words))] = draw.choice(WORDS)
        texts.append(" ".join(words).upper() if draw.random() < 0.3 else " ".join(words))
    return texts


def _brute_force(texts: list[str], threshold: float) -> set[tuple[int, int]]:
    """All pairs of the first rows of distinct texts, and the later rows of each text with its first."""
    first: dict[str, int] = {}
    folded = [fold_text(text) for text in texts]
    repeated = {(first[text], row) for row, text in enumerate(folded) if first.setdefault(text, row) != row}
    rows = first.values()
    return repeated | {
        (i, j) for i, j in combinations(rows, 2) if similarity(texts[i], texts[j]) >= threshold
    }


@pytest.mark.parametrize("threshold", [0.3, 0.6, 0.8, 0.95, 1.0])
def test_all_pairs_are_found_and_no_others(threshold: float) -> None:
    texts = _corpus(50, seed=int(threshold * 100))
    found = find_near_duplicates(texts, threshold)
    assert {(i, j) for i, j, _ in found} == _brute_force(texts, threshold)
    assert all(s == similarity(texts[i], texts[j]) for i, j, s in found)
    assert found == sorted(found)


def test_leaks_are_the_closest_training_row_of_each_row() -> None:
    train, other = _corpus(40, seed=1), _corpus(20, seed=2) + _corpus(40, seed=1)[30:50]
    found = {j: (i, s) for i, j, s in leaks_between(train, other, 0.6)}
    for j, text in enumerate(other):
        best = max(similarity(text, known) for known in train)
        assert (j in found) == (best >= 0.6)
        if j in found:
            assert found[j][1] == best
            assert similarity(train[found[j][0]], text) == best
    assert [j for _, j, _ in leaks_between(train, other, 0.6)] == sorted(found)


def test_exact_duplicates_fold_case_and_space_and_nothing_else() -> None:
    texts = ["Hello there", "hello  THERE ", "hello there!", "STRASSE", "straße", "hello\tthere\n"]
    assert find_exact_duplicates(texts) == [[0, 1, 5], [3, 4]]


def test_contradictions_are_equal_texts_of_unequal_labels() -> None:
    texts = ["a b", "A  b", "c", "C", "d", "d", "d"]
    labels = [["x", "y"], ["y", "x"], ["x"], [], ["x"], ["x"], ["x", "y"]]
    assert find_contradictions(texts, labels) == [[2, 3], [4, 5, 6]]


def test_groups_hang_together() -> None:
    matches = [(0, 1, 1.0), (1, 2, 0.9), (7, 9, 0.8), (2, 5, 0.8), (3, 9, 0.9)]
    assert group_matches(matches) == [[0, 1, 2, 5], [3, 7, 9]]
    assert group_matches([]) == []


def test_any_text_is_a_text() -> None:
    texts = [
        "😀😀😀😀😀😀😀",
        "😀😀😀😀😀😀😀😀😀",
        "😀",
        "👩‍👩‍👧‍👦 👍🏽",
        "👩‍👩‍👧‍👦  👍🏽",
        "שלום עולם, מה שלומך היום חבר שלי",
        "שלום עולם, מה שלומך היום חבר שלי!",
        "هذا نص عربي قصير",
        "ok",
        "OK",
        "\ud83d broken",
        "a",
    ]
    assert find_near_duplicates(texts) == [
        (0, 1, 1.0),
        (3, 4, 1.0),
        (5, 6, pytest.approx(28 / 29)),
        (8, 9, 1.0),
    ]


def test_long_texts_among_short_ones_and_chunks_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(0)
    long = "".join(draw.choices("abcdefghij ", k=100_000))
    texts = ["short", long, "another short text", long[:60_000] + "!" + long[60_000:], *_corpus(40, seed=3)]
    found = find_near_duplicates(texts)
    assert [(i, j) for i, j, _ in found if j < 4] == [(1, 3)]
    assert found[0][2] == similarity(long, texts[3]) < 1
    monkeypatch.setattr(similarity_join, "_CHUNK", 60)
    assert find_near_duplicates(texts) == found


def test_nothing_to_compare() -> None:
    assert find_near_duplicates([]) == find_near_duplicates(["one text"]) == []
    assert leaks_between([], ["a text"]) == leaks_between(["a text"], []) == []
    assert leaks_between(["a text"], ["A text", "other words"]) == [(0, 0, 1.0)]


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.01, float("nan")])
def test_thresholds_that_cannot_be(threshold: float) -> None:
    words = rf"^the threshold of near duplicates is {threshold} and must be above 0 and at most 1$"
    for search in (
        lambda: find_near_duplicates(["a"], threshold),
        lambda: leaks_between(["a"], [], threshold),
    ):
        with pytest.raises(DataError, match=words):
            search()


def test_the_copies_of_a_template_are_one_group_in_bounded_time() -> None:
    texts = [f"your order {i:05} was sent to the address that you gave us last week" for i in range(400)]
    start = time.perf_counter()
    found = find_near_duplicates(texts, 0.7)
    assert time.perf_counter() - start < 5
    assert len(found) < 20 * len(texts)
    assert group_matches(found) == [list(range(400))]
    other = [text.replace("last", "this") for text in texts[:50]]
    assert [j for _, j, _ in leaks_between(texts, other, 0.6)] == list(range(50))

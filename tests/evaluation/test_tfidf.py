"""TF-IDF that is written to JSON and read again is the same to the bit."""

from __future__ import annotations

import json

import pytest

from etude.evaluation.tfidf import Tfidf

WORDS = ["where is my card", "my card is lost", "is there a fee?", "Where, though: where?"] * 2
EMOJI = ["😀😀", "😢", "😀😢😢"]


@pytest.mark.parametrize(("texts", "of_characters"), [(WORDS, False), (EMOJI, True)])
def test_what_was_written_counts_the_same(texts: list[str], of_characters: bool) -> None:
    fitted = Tfidf(texts)
    again = Tfidf.from_json(json.loads(json.dumps(fitted.to_json())))
    assert fitted.of_characters == again.of_characters == of_characters
    fresh = [*texts, "my fee 😀", ""]
    assert (fitted(fresh) != again(fresh)).nnz == 0
    assert fitted(fresh).shape == (len(fresh), again.n_terms)


def test_the_most_frequent_terms_are_kept() -> None:
    assert Tfidf(WORDS, 2).to_json()["terms"] == ["is", "where"]

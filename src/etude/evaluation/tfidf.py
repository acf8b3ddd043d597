"""TF-IDF of words and pairs of words, or of characters where texts have no words: scikit-learn's, set up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from etude.evaluation.writing import has_words

MOST_CHARACTERS = 10_000
"""Of a longer text, the beginning is read."""

MOST_TERMS = 20_000
"""Words and pairs of words that count, the most frequent first."""

FEW_TEXTS = 1_000
"""From so many texts on, a word or pair of words must occur in two of them."""

_LOOKED_AT = 500
"""Texts that are looked at to tell whether they have words."""

_WORD = r"(?u)\b\w+\b"
"""scikit-learn's own pattern leaves out words of one letter."""


class Tfidf:
    """TF-IDF with sublinear counts, fitted on some texts.

    Attributes:
        of_characters: whether it counts one to three characters in a row, and no words.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        beginnings = _beginnings(texts)
        self.of_characters = not has_words(beginnings[:_LOOKED_AT])
        if not self.of_characters:
            rare = 1 if len(texts) < FEW_TEXTS else 2
            self._vectorizer = _vectorizer(
                analyzer="word", ngram_range=(1, 2), token_pattern=_WORD, min_df=rare
            )
            try:
                self._vectorizer.fit(beginnings)
            except ValueError:  # no word occurs twice, as where each text is a number of its own
                self.of_characters = True
        if self.of_characters:
            self._vectorizer = _vectorizer(analyzer="char", ngram_range=(1, 3), lowercase=False)
            self._vectorizer.fit(beginnings)

    def __call__(self, texts: Sequence[str]) -> Any:
        """Return the TF-IDF (N, D) of N texts, a SciPy matrix in CSR form with rows of length one."""
        return self._vectorizer.transform(_beginnings(texts))


def _vectorizer(**unit: Any) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(sublinear_tf=True, max_features=MOST_TERMS, dtype=np.float32, **unit)


def _beginnings(texts: Sequence[str]) -> list[str]:
    return [text[:MOST_CHARACTERS] for text in texts]

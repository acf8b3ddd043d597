"""TF-IDF of words and pairs of words, or of characters where texts have no words: scikit-learn's, set up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

    Args:
        texts: at least one of them is not empty.
        most_terms: words and pairs of words that count.

    Attributes:
        of_characters: whether it counts one to three characters in a row, and no words.
    """

    def __init__(self, texts: Sequence[str], most_terms: int = MOST_TERMS) -> None:
        beginnings = _beginnings(texts)
        self.of_characters = not has_words(beginnings[:_LOOKED_AT])
        if not self.of_characters:
            rare = 1 if len(texts) < FEW_TEXTS else 2
            self._vectorizer = _vectorizer(of_characters=False, max_features=most_terms, min_df=rare)
            try:
                self._vectorizer.fit(beginnings)
            except ValueError:  # no word occurs twice, as where each text is a number of its own
                self.of_characters = True
        if self.of_characters:
            self._vectorizer = _vectorizer(of_characters=True, max_features=most_terms)
            self._vectorizer.fit(beginnings)

    @property
    def n_terms(self) -> int:
        """D."""
        return len(self._vectorizer.vocabulary_)

    def __call__(self, texts: Sequence[str]) -> Any:
        """Return the TF-IDF (N, D) of N texts, a SciPy matrix in CSR form with rows of length one."""
        return self._vectorizer.transform(_beginnings(texts))

    def to_json(self) -> dict[str, Any]:
        """Its terms with their weights, for a file.

        >>> told = Tfidf(["red sky", "red sea"]).to_json()
        >>> told["terms"]
        ['red', 'red sea', 'red sky', 'sea', 'sky']
        """
        places = self._vectorizer.vocabulary_
        return {
            "of_characters": self.of_characters,
            "terms": sorted(places, key=places.__getitem__),
            "weights": self._vectorizer.idf_.astype(np.float64).tolist(),
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Tfidf:
        """Take back what :meth:`to_json` gave."""
        found = cls.__new__(cls)
        found.of_characters = told["of_characters"]
        found._vectorizer = _vectorizer(of_characters=found.of_characters, vocabulary=told["terms"])
        found._vectorizer.idf_ = np.asarray(told["weights"], dtype=np.float32)
        return found


def _vectorizer(*, of_characters: bool, **more: Any) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    unit: dict[str, Any] = {"analyzer": "word", "ngram_range": (1, 2), "token_pattern": _WORD}
    if of_characters:
        unit = {"analyzer": "char", "ngram_range": (1, 3), "lowercase": False}
    return TfidfVectorizer(sublinear_tf=True, dtype=np.float32, **unit, **more)


def _beginnings(texts: Sequence[str]) -> list[str]:
    return [text[:MOST_CHARACTERS] for text in texts]

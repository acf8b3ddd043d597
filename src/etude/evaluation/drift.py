"""Adversarial validation: can a classifier tell from which part of the data a row comes?

Rows of two parts are mixed, and a logistic regression over TF-IDF and a few plain figures learns which
are of the second. Where parts are drawn alike it cannot: its cross-validated AUC is about 0.5. Where it
can, what it relies on tells how the parts differ (Zajac, FastML, 2016, "Adversarial validation"). No
label is looked at, so that the texts of a locked test part may be asked as well.

Shapes: N rows of both parts, K columns of numbers beside the texts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from etude.core.observe import Reporter
from etude.core.rng import key, numpy_generator
from etude.evaluation.trust import Estimate, auc

MOST_ROWS = 5000
"""Rows of each part that are compared; more would cost time and hardly narrow the interval."""

MOST_CHARACTERS = 5000
"""Characters of a text that are looked at."""

WORD = r"\w+|[^\w\s]"
"""What counts as a word; a sign such as an emoji is one."""


@dataclass(frozen=True)
class Rows:
    """Rows of one part, without their labels.

    Attributes:
        texts: (N,) the texts.
        numbers: (N,) figures by column, for data that have some beside the text.
    """

    texts: Sequence[str]
    numbers: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    def take(self, chosen: NDArray[np.int64]) -> Rows:
        """Some of the rows."""
        texts = [self.texts[row] for row in chosen.tolist()]
        return Rows(texts, {name: values[chosen] for name, values in self.numbers.items()})


@dataclass(frozen=True)
class Clue:
    """Something that tells the parts apart.

    Attributes:
        name: a word, or what was measured.
        kind: whether it is a word or a figure.
        share: of the gap between the parts' mean scores, which all features together make.
        first: the share of the first part's rows that have the word, or the figure's mean there.
        second: the same of the second part.
    """

    name: str
    kind: Literal["word", "figure"]
    share: float
    first: float
    second: float


@dataclass(frozen=True)
class Drift:
    """How well two parts can be told apart.

    Attributes:
        auc: cross-validated, 0.5 where they cannot be.
        clues: what the classifier relies on, the strongest first.
        rows: how many rows of each part were compared.
        folds: of the cross-validation.
    """

    auc: Estimate
    clues: list[Clue]
    rows: tuple[int, int]
    folds: int


def compare_parts(
    first: Rows, second: Rows, *, seed: int, n_clues: int = 10, reporter: Reporter | None = None
) -> Drift:
    """Train classifiers to tell two parts apart, and return how well they do on rows left out.

    Args:
        first: rows of one part, at least five.
        second: rows of the other, at least five.
        seed: keys the choice of rows and of folds.
        n_clues: how many clues to name.
        reporter: shows a bar.

    Raises:
        ValueError: a part has fewer than five rows.
    """
    fewest = min(len(first.texts), len(second.texts))
    if fewest < 5:
        raise ValueError(f"parts of five rows or more can be compared, and one has {fewest}")
    first, second = _sample(first, seed, "first"), _sample(second, seed, "second")
    is_second = np.repeat([False, True], [len(first.texts), len(second.texts)])
    features, names, values = _features(first, second)
    scores = np.zeros(len(is_second))
    folds = _folds(is_second, seed)
    with (reporter or Reporter()).bar("telling parts apart", len(folds) + 1, "fits") as bar:
        for kept, held_out in folds:
            model = _fit(features[kept], is_second[kept])
            scores[held_out] = model.decision_function(features[held_out])
            bar.advance()
        gaps = _gaps(_fit(features, is_second).coef_[0], features, is_second)
        bar.advance()
    clues = _clues(gaps, names, values, is_second, n_clues)
    return Drift(auc(scores, is_second), clues, (len(first.texts), len(second.texts)), len(folds))


def _sample(rows: Rows, seed: int, name: str) -> Rows:
    if len(rows.texts) > MOST_ROWS:
        generator = numpy_generator(seed, "drift", name)
        rows = rows.take(np.sort(generator.choice(len(rows.texts), MOST_ROWS, replace=False)))
    return Rows([text[:MOST_CHARACTERS] for text in rows.texts], rows.numbers)


def _folds(is_second: NDArray[np.bool_], seed: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    from sklearn.model_selection import StratifiedKFold

    splitter = StratifiedKFold(5, shuffle=True, random_state=key(seed, "drift", "folds") % 2**32)
    return list(splitter.split(is_second, is_second))


def _fit(features: Any, is_second: NDArray[np.bool_]) -> Any:
    from sklearn.linear_model import LogisticRegression

    # Balanced, as a validation part is a tenth of the training part and AUC does not mind.
    model = LogisticRegression(solver="liblinear", class_weight="balanced", tol=1e-3, random_state=0)
    return model.fit(features, is_second)


def _features(first: Rows, second: Rows) -> tuple[Any, list[str], Any]:
    """Sparse features (N, F) of both parts, their names, and what is said of each in words (N, F).

    Figures come last, standardised for the regression and as they are for the reader. A column that a part
    does not know is left out.
    """
    from scipy.sparse import csr_array, hstack  # type: ignore[import-untyped]
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = [*first.texts, *second.texts]
    vectorizer = TfidfVectorizer(
        token_pattern=WORD, max_features=20_000, min_df=2 if len(texts) > 1000 else 1, sublinear_tf=True
    )
    words = csr_array(vectorizer.fit_transform(texts))
    figures = {name: np.array([measure(text) for text in texts]) for name, measure in _FIGURES.items()}
    scaled = {name: np.log1p(values) if name in _COUNTS else values for name, values in figures.items()}
    for name, values in first.numbers.items():
        both = np.concatenate([values, second.numbers[name]])
        if np.isfinite(both[: len(values)]).any() and np.isfinite(both[len(values) :]).any():
            figures[f"column {name!r}"] = scaled[f"column {name!r}"] = both
    table = np.column_stack(list(figures.values()))
    standardised = _standardised(np.column_stack(list(scaled.values())))
    features = csr_array(hstack([words, csr_array(standardised)]))
    return features, [*vectorizer.get_feature_names_out().tolist(), *figures], (words, table)


def _standardised(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Figures (N, F) with mean 0 and deviation 1, far ones drawn in; a missing one is the mean."""
    filled = np.where(np.isfinite(table), table, np.nan)
    present = np.isfinite(filled)
    n = np.maximum(present.sum(axis=0), 1)
    mean = np.where(present, filled, 0.0).sum(axis=0) / n
    centred = np.where(present, filled - mean, 0.0)
    deviation = np.sqrt((centred**2).sum(axis=0) / n)
    scaled: NDArray[np.float64] = np.clip(centred / np.where(deviation > 0, deviation, 1.0), -4.0, 4.0)
    return scaled


def _clues(
    gaps: NDArray[np.float64], names: list[str], values: Any, is_second: NDArray[np.bool_], most: int
) -> list[Clue]:
    """The features that take the largest parts of the gap between the parts' mean scores."""
    words, table = values
    n_words = words.shape[1]
    clues = []
    for i in np.argsort(-gaps, kind="stable")[:most].tolist():
        if i < n_words:
            has = np.asarray(words[:, [i]].todense()).ravel() > 0
            first, second = float(has[~is_second].mean()), float(has[is_second].mean())
        else:
            cells = table[:, i - n_words]
            present = np.isfinite(cells)
            first, second = (float(cells[side & present].mean()) for side in (~is_second, is_second))
        kind: Literal["word", "figure"] = "word" if i < n_words else "figure"
        clues.append(Clue(names[i], kind, float(gaps[i] / max(gaps.sum(), 1e-12)), first, second))
    return clues


def _gaps(weights: NDArray[np.float64], features: Any, is_second: NDArray[np.bool_]) -> NDArray[np.float64]:
    """What each feature adds to the gap between the mean scores: its weight times its mean difference."""
    means = [np.asarray(features[side].mean(axis=0)).ravel() for side in (is_second, ~is_second)]
    gaps: NDArray[np.float64] = weights * (means[0] - means[1])
    return gaps


def _share_of(pattern: str) -> Callable[[str], float]:
    found = re.compile(pattern)
    return lambda text: len(found.findall(text)) / max(len(text), 1)


_COUNTS = ("number of characters", "number of words")
"""Figures that may be very large, of which the regression takes the logarithm."""

_FIGURES: dict[str, Callable[[str], float]] = {
    "number of characters": len,
    "number of words": lambda text: len(text.split()),
    "share of digits": _share_of(r"\d"),
    "share of punctuation": _share_of(r"[^\w\s]"),
    "share of capital letters": lambda text: sum(map(str.isupper, text)) / max(len(text), 1),
    "share of characters beyond ASCII": _share_of(r"[^\x00-\x7f]"),
}
"""Plain figures of a text, which tell apart what words may not: length, form, script."""

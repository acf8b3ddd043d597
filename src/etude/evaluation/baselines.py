"""Baselines: what simple models reach on the same rows, so that a score means something.

* ``zero_rule`` looks at no text: every row gets each label's share of the training rows. Its likeliest
  label is the majority class. For multilabel tasks its plain decision is the labels that most rows have
  (the best constant answer label by label); thresholds fitted to a metric turn it into the best constant
  answer for that metric, which for macro-F1 is "every label".
* ``tfidf_logistic`` is logistic regression on TF-IDF of words and pairs of words. Where the texts have no
  words (only emoji), or a script without spaces makes them useless, it takes character n-grams.
* ``frozen_logistic`` is logistic regression on the features of the untouched backbone: what fine-tuning
  has to beat.
* ``boosted_trees`` are histogram gradient-boosted trees over the numeric columns, where there are any.

The models are scikit-learn's. A multilabel task is one problem for each label (one-vs-rest); a label that
all or none of the rows have keeps its share. Soft targets count as the labels they stand for. Rows out of
scope take no part in fitting, and are scored like any other.

Shapes: N rows of a part, n of them to fit on, C classes, D features, K numbers.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from etude.core.rng import key, numpy_generator
from etude.core.task import Task
from etude.errors import ConfigError, closest
from etude.evaluation.scored import true_labels

ZERO_RULE, TFIDF, FROZEN, TREES = "zero_rule", "tfidf_logistic", "frozen_logistic", "boosted_trees"

NAMES: Mapping[str, str] = {
    ZERO_RULE: "each label's share of the training rows, whatever the text",
    TFIDF: "logistic regression on TF-IDF of words and pairs of words",
    FROZEN: "logistic regression on the features of the untouched backbone",
    TREES: "gradient-boosted trees over the numeric columns",
}
"""Every baseline with what it is."""

MOST_ROWS = 20_000
"""Training rows that a baseline is fitted on; of more, a sample is taken."""

MOST_CELLS = 3_000_000
"""Rows times classes of the same: with 1,000 classes 3,000 rows remain."""

MOST_WORDS = 30_000
"""Words and pairs of words that count, the most frequent first."""

MOST_CHARACTERS = 10_000
"""Of a longer text, TF-IDF reads the beginning."""

MOST_TREES = 1_000
"""Trees over all classes; each class gets at least ten."""

CHEAP_CELLS = 50_000
"""Rows times classes up to which an inner split chooses the strength of logistic regression."""

STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)
"""What it chooses from, as scikit-learn's C."""

NEVER = 20.0
"""How far below all others the logit of a class without a training row stands."""

LEAST = 1e-7
"""No share of a constant answer counts as less, so that logits stay finite."""

Matrix = Any
"""A dense array or a sparse matrix (n, D)."""

FeaturesOf = Callable[[str, NDArray[np.int64]], NDArray[np.float32]]
"""(part, rows (n,)) -> features (n, D) of these rows from the untouched backbone."""


@dataclass(frozen=True)
class BaselinePart:
    """N rows as baselines see them.

    Attributes:
        texts: (N,).
        targets: (N, C) from 0 to 1.
        weights: (N,) 0 or more, or None for ones; they count in fitting.
        pairs: (N,) second texts, or None.
        numbers: (N, K), or None.
    """

    texts: Sequence[str]
    targets: NDArray[np.float32]
    weights: NDArray[np.float32] | None = None
    pairs: Sequence[str] | None = None
    numbers: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True)
class Baseline:
    """A fitted baseline and what it says.

    Attributes:
        name: a key of :data:`NAMES`.
        task: the task.
        logits: by part, (N, C); the task's activation turns them into probabilities.
        seconds: for fitting and predicting, features included.
        n_fit_rows: training rows that it was fitted on.
        note: a sentence on what was left out or chosen, or empty.
    """

    name: str
    task: Task
    logits: Mapping[str, NDArray[np.float32]]
    seconds: float
    n_fit_rows: int
    note: str = ""

    @property
    def probabilities(self) -> dict[str, NDArray[np.float32]]:
        """By part, (N, C)."""
        return {
            part: self.task.probabilities(torch.from_numpy(logits)).numpy()
            for part, logits in self.logits.items()
        }


def fit_baselines(
    task: Task,
    train: BaselinePart,
    parts: Mapping[str, BaselinePart],
    *,
    features: FeaturesOf | None = None,
    only: Collection[str] | None = None,
    seed: int = 0,
    tick: Callable[[str], None] | None = None,
) -> dict[str, Baseline]:
    """Fit every baseline that the data allow, and let each predict the parts.

    Args:
        task: names the labels.
        train: the training part, called ``"train"`` in ``features``.
        parts: the parts to predict, by name.
        features: gives the untouched backbone's features; without it there is no ``frozen_logistic``.
        only: names of the baselines to fit; all if absent.
        seed: of the sample of training rows and of the trees.
        tick: called with each baseline's name once it is done.

    Raises:
        ConfigError: ``only`` holds an unknown name, or one whose inputs the data lack.

    >>> from etude.core.task import Multiclass
    >>> train = BaselinePart(["a", "b", "b"], np.eye(2, dtype=np.float32)[[0, 1, 1]])
    >>> found = fit_baselines(Multiclass(["x", "y"]), train, {"test": train}, only=["zero_rule"])
    >>> found["zero_rule"].probabilities["test"][0].round(3).tolist()
    [0.333, 0.667]
    """
    possible = _possible(train, features)
    for name in only or ():
        _refuse_unknown(name, possible)
    rows = rows_to_fit(task, train.targets, train.weights, seed)
    problem = _Problem(task, train, parts, rows, features, seed)
    fitters: Mapping[str, Callable[[_Problem], tuple[_Logits, str]]] = {
        ZERO_RULE: _zero_rule,
        TFIDF: _tfidf_logistic,
        FROZEN: _frozen_logistic,
        TREES: _boosted_trees,
    }
    found = {}
    for name in possible:
        if only is not None and name not in only:
            continue
        start = time.perf_counter()
        logits, note = fitters[name](problem)
        n_rows = len(train) if name == ZERO_RULE else len(rows)
        notes = [note] if note else []
        if n_rows < len(train):
            notes.insert(0, f"fitted on {n_rows:,} of {len(train):,} training rows")
        found[name] = Baseline(name, task, logits, time.perf_counter() - start, n_rows, "; ".join(notes))
        if tick is not None:
            tick(name)
    return found


def rows_to_fit(
    task: Task, targets: NDArray[np.float32], weights: NDArray[np.float32] | None, seed: int
) -> NDArray[np.int64]:
    """Return the training rows to fit on, ascending: all that count, or a sample that stays in seconds.

    Rows of weight 0, and rows of a single-label task without any label, do not count.
    """
    counts = np.ones(len(targets), dtype=np.bool_) if weights is None else weights > 0
    if task.kind != "multilabel":
        counts = counts & (targets > 0).any(axis=1)
    rows = np.flatnonzero(counts)
    most = min(MOST_ROWS, max(MOST_CELLS // task.n_classes, 1_000))
    if len(rows) > most:
        rows = np.sort(numpy_generator(seed, "baselines").permutation(rows)[:most])
    return rows


_Logits = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class _Problem:
    """What all baselines are fitted to: the parts, and which training rows."""

    task: Task
    train: BaselinePart
    parts: Mapping[str, BaselinePart]
    rows: NDArray[np.int64]
    features: FeaturesOf | None
    seed: int

    @property
    def truth(self) -> NDArray[np.bool_]:
        """(n, C), the labels of the rows to fit on."""
        return true_labels(self.task, self.train.targets[self.rows])

    @property
    def weights(self) -> NDArray[np.float32]:
        """(n,), the weights of the rows to fit on."""
        given = self.train.weights
        return np.ones(len(self.rows), dtype=np.float32) if given is None else given[self.rows]


def _possible(train: BaselinePart, features: FeaturesOf | None) -> list[str]:
    """The baselines whose inputs there are."""
    has = {TFIDF: len(train.texts) > 0, FROZEN: features is not None, TREES: train.numbers is not None}
    return [name for name in NAMES if has.get(name, True)]


def _refuse_unknown(name: str, possible: Sequence[str]) -> None:
    if name not in NAMES:
        raise ConfigError(f"{name!r} is no baseline{closest(name, NAMES)}; there are {', '.join(NAMES)}")
    if name not in possible:
        wanted = {TFIDF: "texts", FROZEN: "a backbone", TREES: "data.numeric"}[name]
        raise ConfigError(
            f"the baseline {name!r} needs {wanted}, which this config lacks; choose from {', '.join(possible)}"
        )


def _zero_rule(problem: _Problem) -> tuple[_Logits, str]:
    """Every row gets the share that each label has of the training rows."""
    task, train = problem.task, problem.train
    truth = true_labels(task, train.targets)
    weights = np.ones(len(train)) if train.weights is None else train.weights.astype(np.float64)
    if task.kind != "multilabel":
        weights = weights * truth.any(axis=1)
    total = weights.sum()
    shares = weights @ truth / total if total > 0 else np.full(task.n_classes, 1.0 / task.n_classes)
    logits = _logit_of(task, shares)
    return {name: np.tile(logits, (len(part), 1)) for name, part in problem.parts.items()}, ""


def _logit_of(task: Task, shares: NDArray[np.float64]) -> NDArray[np.float32]:
    """The logits (C,) whose probabilities are the shares (C,)."""
    shares = np.clip(shares, LEAST, 1.0 - LEAST)
    logits = np.log(shares) - (np.log1p(-shares) if task.kind == "multilabel" else 0.0)
    return logits.astype(np.float32)


def _tfidf_logistic(problem: _Problem) -> tuple[_Logits, str]:
    """Logistic regression on TF-IDF, of both texts where there are pairs, and on the numbers beside them."""
    from scipy import sparse

    train, rows = problem.train, problem.rows.tolist()
    blocks: dict[str, list[Matrix]] = {name: [] for name in ("", *problem.parts)}
    note = ""
    for column in ("texts", "pairs") if train.pairs is not None else ("texts",):
        texts = [getattr(train, column)[row][:MOST_CHARACTERS] for row in rows]
        vectorizer, said = _fit_vectorizer(texts)
        note = said or note
        blocks[""].append(vectorizer.transform(texts))
        for name, part in problem.parts.items():
            beginnings = [text[:MOST_CHARACTERS] for text in getattr(part, column)]
            blocks[name].append(vectorizer.transform(beginnings))
    if train.numbers is not None:
        blocks[""].append(sparse.csr_matrix(train.numbers[problem.rows]))
        for name, part in problem.parts.items():
            blocks[name].append(sparse.csr_matrix(part.numbers))
    design = {name: sparse.hstack(found, format="csr", dtype=np.float32) for name, found in blocks.items()}
    return _logistic(problem, design.pop(""), design, strength=10.0), note


def _fit_vectorizer(texts: Sequence[str]) -> tuple[Any, str]:
    """TF-IDF of words and pairs of words; of characters where white space cuts no words, with a note."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    common = {"sublinear_tf": True, "max_features": MOST_WORDS, "dtype": np.float32}
    if _has_words(texts):
        words = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b", **common)
        return words.fit(texts), ""
    characters = TfidfVectorizer(analyzer="char", ngram_range=(1, 3), lowercase=False, **common)
    return characters.fit(texts), "characters in place of words, since white space cuts the texts into none"


def _has_words(texts: Sequence[str]) -> bool:
    """Whether white space cuts most texts into words.

    >>> _has_words(["where is it", "thanks"]), _has_words(["😀😀", "🎉"]), _has_words(["我的包裹在哪里呢请告诉我"])
    (True, False, False)
    """
    with_words = sum(any(c.isalnum() for c in text) for text in texts)
    n_pieces = sum(len(text.split()) for text in texts)
    n_characters = sum(map(len, texts))
    # No language that is written with spaces has words of twelve letters on the average.
    return 2 * with_words > len(texts) and n_characters < 12 * n_pieces


def _frozen_logistic(problem: _Problem) -> tuple[_Logits, str]:
    """Logistic regression on standardised features of the untouched backbone."""
    from sklearn.preprocessing import StandardScaler

    if problem.features is None:
        raise ValueError("frozen features were not given")
    scaler = StandardScaler()
    train = scaler.fit_transform(problem.features("train", problem.rows))
    others = {
        name: scaler.transform(problem.features(name, np.arange(len(part))))
        for name, part in problem.parts.items()
    }
    return _logistic(problem, train, others, strength=0.1), ""


def _boosted_trees(problem: _Problem) -> tuple[_Logits, str]:
    """Gradient-boosted trees over the numbers."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    n_problems = 1 if problem.task.kind == "binary" else problem.task.n_classes

    def make() -> Any:
        return HistGradientBoostingClassifier(
            max_iter=min(100, max(MOST_TREES // n_problems, 10)),
            min_samples_leaf=max(1, min(20, len(problem.rows) // 20)),
            early_stopping=False,  # its inner split fails on a class of one row
            random_state=key(problem.seed, TREES) % 2**32,
        )

    numbers = {name: part.numbers for name, part in problem.parts.items()}
    return _fit_and_predict(problem, make, problem.train.numbers[problem.rows], numbers), ""


def _logistic(problem: _Problem, train: Matrix, others: Mapping[str, Matrix], strength: float) -> _Logits:
    """Fit logistic regression and return the logits of the parts.

    ``strength`` is scikit-learn's C where choosing it would take long; on few rows an inner split chooses.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    def maker(c: float) -> Callable[[], Any]:
        return lambda: LogisticRegression(C=c, max_iter=100, tol=1e-3)

    with warnings.catch_warnings():
        # A hundred iterations are enough for a score to compare with; the last digits are not needed.
        warnings.simplefilter("ignore", ConvergenceWarning)
        if len(problem.rows) * problem.task.n_classes <= CHEAP_CELLS:
            fits = {c: maker(c) for c in STRENGTHS}
            strength = _choose(problem, train, fits)
        return _fit_and_predict(problem, maker(strength), train, others)


def _choose(problem: _Problem, design: Matrix, makers: Mapping[float, Callable[[], Any]]) -> float:
    """Return the setting whose model has the least loss on a fifth of the rows that it was not fitted on."""
    n_rows = len(problem.rows)
    order = numpy_generator(problem.seed, "baselines", "inner split").permutation(n_rows)
    held_out, kept = np.sort(order[: n_rows // 5]), np.sort(order[n_rows // 5 :])
    truth = torch.from_numpy(problem.truth[held_out].astype(np.float32))
    losses = {}
    for setting, make in makers.items():
        logits = _fit_and_predict(problem, make, design[kept], {"held out": design[held_out]}, kept)
        losses[setting] = float(_loss(problem.task, torch.from_numpy(logits["held out"]), truth))
    return min(losses, key=losses.__getitem__)


def _loss(task: Task, logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    if task.kind == "multilabel":
        return torch.nn.functional.binary_cross_entropy_with_logits(logits, truth)
    return torch.nn.functional.cross_entropy(logits, truth)


def _fit_and_predict(
    problem: _Problem,
    make: Callable[[], Any],
    train: Matrix,
    others: Mapping[str, Matrix],
    rows: NDArray[np.int64] | None = None,
) -> _Logits:
    """Fit one classifier for all classes, or one for each label, and return the logits of the parts.

    ``rows`` says which of the problem's rows ``train`` holds; all if absent.
    """
    truth, weights = problem.truth, problem.weights
    if rows is not None:
        truth, weights = truth[rows], weights[rows]
    if problem.task.kind != "multilabel":
        return _fit_classes(make(), train, truth, weights, others)
    columns = [_fit_label(make(), train, label, weights, others) for label in truth.T]
    return {name: np.stack([column[name] for column in columns], axis=1) for name in others}


def _fit_classes(
    model: Any,
    train: Matrix,
    truth: NDArray[np.bool_],
    weights: NDArray[np.float32],
    others: Mapping[str, Matrix],
) -> _Logits:
    """Logits (N, C) for one class of C each; a class without a row gets a lower logit than all others."""
    classes = truth.argmax(axis=1)
    present = np.unique(classes)
    if len(present) > 1:
        model.fit(train, classes, sample_weight=weights)
    found = {}
    for name, design in others.items():
        scores = model.decision_function(design) if len(present) > 1 else np.zeros((design.shape[0], 1))
        if scores.ndim == 1:  # two classes: the log-odds of the second
            scores = np.stack([-scores / 2, scores / 2], axis=1)
        logits = np.repeat(scores.min(axis=1, keepdims=True) - NEVER, truth.shape[1], axis=1)
        logits[:, present] = scores
        found[name] = logits.astype(np.float32)
    return found


def _fit_label(
    model: Any,
    train: Matrix,
    holds: NDArray[np.bool_],
    weights: NDArray[np.float32],
    others: Mapping[str, Matrix],
) -> _Logits:
    """The log-odds (N,) of one label; one that all or none of the rows have keeps its share."""
    if holds.all() or not holds.any():
        share = 1.0 - LEAST if holds.any() else LEAST
        constant = np.float32(np.log(share) - np.log1p(-share))
        return {name: np.full(design.shape[0], constant) for name, design in others.items()}
    model.fit(train, holds, sample_weight=weights)
    return {name: model.decision_function(design).astype(np.float32) for name, design in others.items()}

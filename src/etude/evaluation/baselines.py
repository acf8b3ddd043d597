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

Words are counted and trees grown by scikit-learn. A multilabel task is one problem for each label
(one-vs-rest); a label that all or none of the rows have keeps its share. Rows out of scope take no part in
fitting, and are predicted like any other.

Shapes: N rows of a part, n of them to fit on, C classes, D features, K numbers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from etude.core.rng import key, numpy_generator
from etude.core.task import Task
from etude.errors import ConfigError, closest
from etude.evaluation.logistic import LEAST_SHARE, Design, Logistic, fit_logistic
from etude.evaluation.scored import true_labels
from etude.evaluation.tfidf import Tfidf
from etude.evaluation.trees import trees_for_classes, trees_for_labels

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

CHEAP_CELLS = 50_000
"""Rows times classes up to which an inner split chooses the strength of logistic regression."""

STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)
"""What it chooses from, as scikit-learn's C."""

TFIDF_STRENGTH, FROZEN_STRENGTH = 30.0, 0.1
"""C on more rows, for TF-IDF and for standardised features."""

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
    feature_rows: int = MOST_ROWS,
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
        feature_rows: training rows that ``frozen_logistic`` is fitted on, where features are slow.
        only: names of the baselines to fit; all if absent.
        seed: of the sample of training rows and of the trees.
        tick: called with each baseline's name once it is done.

    Raises:
        ConfigError: ``only`` holds an unknown name, or one whose inputs the data lack.

    >>> from etude.core.task import Multiclass
    >>> train = BaselinePart(["a", "b", "b"], np.eye(2, dtype=np.float32)[[0, 1, 1]])
    >>> found = fit_baselines(Multiclass(["x", "y"]), train, {"test": train}, only=["zero_rule"])
    >>> [round(float(p), 3) for p in found["zero_rule"].probabilities["test"][0]]
    [0.333, 0.667]
    """
    possible = _possible(train, features)
    for name in only or ():
        _refuse_unknown(name, possible)
    rows = rows_to_fit(task, train.targets, train.weights, seed)
    whole = _Problem(task, train, rows, _taken(train, rows), parts, features, seed)
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
        problem = whole.of_fewer_rows(feature_rows) if name == FROZEN else whole
        logits, note = fitters[name](problem)
        n_rows = len(train) if name == ZERO_RULE else len(problem.rows)
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
    return _sample(np.flatnonzero(counts), min(MOST_ROWS, max(MOST_CELLS // task.n_classes, 1_000)), seed)


def _sample(rows: NDArray[np.int64], most: int, seed: int) -> NDArray[np.int64]:
    """At most so many of the rows, ascending."""
    if len(rows) <= most:
        return rows
    return np.sort(numpy_generator(seed, "baselines").permutation(rows)[:most])


_Logits = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class _Problem:
    """What all baselines are fitted to.

    Attributes:
        task: the task.
        train: the whole training part.
        rows: (n,) those of its rows to fit on.
        fitted: the part of these rows.
        parts: what to predict.
        features: as for :func:`fit_baselines`.
        seed: the run's.
    """

    task: Task
    train: BaselinePart
    rows: NDArray[np.int64]
    fitted: BaselinePart
    parts: Mapping[str, BaselinePart]
    features: FeaturesOf | None
    seed: int

    @property
    def weights(self) -> NDArray[np.float32]:
        """(n,), of the rows to fit on."""
        given = self.fitted.weights
        return np.ones(len(self.rows), dtype=np.float32) if given is None else given

    def of_fewer_rows(self, most: int) -> _Problem:
        """The same problem with a sample of at most so many rows to fit on."""
        rows = _sample(self.rows, most, self.seed)
        return (
            self if len(rows) == len(self.rows) else replace(self, rows=rows, fitted=_taken(self.train, rows))
        )

    def by_part(self, values: Sequence[NDArray[np.float32]]) -> _Logits:
        """Values in the order of the parts, by their names."""
        return dict(zip(self.parts, values, strict=True))


def _taken(part: BaselinePart, rows: NDArray[np.int64]) -> BaselinePart:
    """Some rows of a part."""
    chosen = rows.tolist()
    return BaselinePart(
        [part.texts[row] for row in chosen] if len(part.texts) else [],
        part.targets[rows],
        None if part.weights is None else part.weights[rows],
        None if part.pairs is None else [part.pairs[row] for row in chosen],
        None if part.numbers is None else part.numbers[rows],
    )


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
            f"the baseline {name!r} needs {wanted}, which this config lacks; there are {', '.join(possible)}"
        )


def _zero_rule(problem: _Problem) -> tuple[_Logits, str]:
    """Every row gets the share that each label has of the training rows."""
    task, train = problem.task, problem.train
    truth = true_labels(task, train.targets)
    weights = np.ones(len(train)) if train.weights is None else train.weights.astype(np.float64)
    if task.kind != "multilabel":
        weights = weights * truth.any(axis=1)
    shares = np.clip(weights @ truth / weights.sum(), LEAST_SHARE, 1.0 - LEAST_SHARE)
    logits = np.log(shares) - (np.log1p(-shares) if task.kind == "multilabel" else 0.0)
    everywhere = [np.tile(logits.astype(np.float32), (len(part), 1)) for part in problem.parts.values()]
    return problem.by_part(everywhere), ""


def _tfidf_logistic(problem: _Problem) -> tuple[_Logits, str]:
    """Logistic regression on TF-IDF, of both texts where there are pairs, and on the numbers beside them."""
    from scipy import sparse  # type: ignore[import-untyped]

    fitted, note = problem.fitted, ""
    everything = [fitted, *problem.parts.values()]
    blocks: list[list[Any]] = [[] for _ in everything]
    for column in ("texts", "pairs") if fitted.pairs is not None else ("texts",):
        tfidf = Tfidf(getattr(fitted, column))
        if tfidf.of_characters:
            note = f"characters in place of words, which the {column} do not have"
        for found, part in zip(blocks, everything, strict=True):
            found.append(tfidf(getattr(part, column)))
    if fitted.numbers is not None:
        for found, part in zip(blocks, everything, strict=True):
            found.append(sparse.csr_matrix(_numbers_of(part)))
    design, *others = [sparse.hstack(found, format="csr", dtype=np.float32) for found in blocks]
    return _logistic(problem, design, others, TFIDF_STRENGTH), note


def _frozen_logistic(problem: _Problem) -> tuple[_Logits, str]:
    """Logistic regression on standardised features of the untouched backbone."""
    from sklearn.preprocessing import StandardScaler

    if problem.features is None:
        raise ValueError("frozen features were not given")
    scaler = StandardScaler()
    design = scaler.fit_transform(problem.features("train", problem.rows))
    others = [
        scaler.transform(problem.features(name, np.arange(len(part)))) for name, part in problem.parts.items()
    ]
    return _logistic(problem, design, others, FROZEN_STRENGTH), ""


def _boosted_trees(problem: _Problem) -> tuple[_Logits, str]:
    """Gradient-boosted trees over the numbers: one model for all classes, or one for each label."""
    task, numbers = problem.task, _numbers_of(problem.fitted)
    others = [_numbers_of(part) for part in problem.parts.values()]
    truth, seed = true_labels(task, problem.fitted.targets), key(problem.seed, TREES)
    if task.kind == "multilabel":
        return problem.by_part(trees_for_labels(numbers, truth, problem.weights, others, seed)), ""
    classes = truth.argmax(axis=1)
    logits = trees_for_classes(numbers, classes, problem.weights, others, task.n_classes, seed)
    return problem.by_part(logits), ""


def _numbers_of(part: BaselinePart) -> NDArray[np.float32]:
    if part.numbers is None:
        raise ValueError("a part has no numbers, and the training part has them; give both or none")
    return part.numbers


def _logistic(problem: _Problem, design: Design, others: Sequence[Design], strength: float) -> _Logits:
    """Fit logistic regression and return the logits of the parts.

    ``strength`` is its C where choosing it would take long; on few rows an inner split chooses.
    """
    if problem.fitted.targets.size <= CHEAP_CELLS:
        strength = _choose_strength(problem, design)
    model = _fit(problem, design, strength, slice(None))
    return problem.by_part([model.logits(other) for other in others])


def _choose_strength(problem: _Problem, design: Design) -> float:
    """The C with the least loss on a fifth of the rows, fitted on the others."""
    order = numpy_generator(problem.seed, "baselines", "inner split").permutation(len(problem.rows))
    held_out, kept = np.sort(order[: len(order) // 5]), np.sort(order[len(order) // 5 :])
    if len(held_out) == 0:
        return 1.0
    wanted = torch.from_numpy(problem.fitted.targets[held_out])
    loss = F.binary_cross_entropy_with_logits if problem.task.kind == "multilabel" else F.cross_entropy
    losses = {}
    for strength in STRENGTHS:
        logits = _fit(problem, design[kept], strength, kept).logits(design[held_out])
        losses[strength] = float(loss(torch.from_numpy(logits), wanted))
    return min(losses, key=losses.__getitem__)


def _fit(problem: _Problem, design: Design, strength: float, kept: Any) -> Logistic:
    """Fit logistic regression on the rows ``kept`` of those to fit on, which the design holds."""
    several = problem.task.kind == "multilabel"
    targets, weights = problem.fitted.targets[kept], problem.weights[kept]
    return fit_logistic(design, targets, weights, strength=strength, multilabel=several)

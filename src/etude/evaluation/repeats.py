"""The same model again and again: what chance does to a score, and whether two parts agree on quality.

Fine-tuning five times to learn how far scores wander costs five trainings. Logistic regression on
TF-IDF costs seconds, sees the same rows, and wanders for the same reasons: which rows it happened to
get, and how few there are to be scored on. So its figures are a guide to those of a larger model, not a
bound on them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from etude.core.observe import Reporter
from etude.core.rng import numpy_generator
from etude.core.task import Task
from etude.evaluation.baselines import TFIDF, BaselinePart, fit_baselines
from etude.evaluation.bootstrap import bootstrap
from etude.evaluation.metrics import score
from etude.evaluation.trust import Spread, spread

RUNS = 5
RUNGS = (1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4, 1.0)
"""Shares of the training rows that make models of different quality."""

FEWEST = 20
"""Training rows below which no model is fitted."""


@dataclass(frozen=True)
class Noise:
    """What chance does to a metric on one part.

    Attributes:
        metric: its name.
        scores: of the runs, each fitted to another bootstrap sample of the training rows.
        runs: their spread.
        sampling_error: the standard error of one model's score, as its part has no more rows.
    """

    metric: str
    scores: list[float]
    runs: Spread
    sampling_error: float


def repeat(
    task: Task,
    train: BaselinePart,
    validation: BaselinePart,
    *,
    metric: str,
    seed: int,
    runs: int = RUNS,
    resamples: int = 500,
    reporter: Reporter | None = None,
) -> Noise:
    """Fit the same cheap model to bootstrap samples of the training rows, and score each.

    Args:
        task: the task.
        train: what to fit to.
        validation: what to score on.
        metric: which score.
        seed: keys the samples.
        runs: how many models.
        resamples: of the validation rows, for the error that their number brings.
        reporter: shows a bar.
    """
    scores: list[float] = []
    with (reporter or Reporter()).bar("repeating a cheap run", runs, "runs") as bar:
        for run in range(runs):
            n_rows = len(train)
            drawn = numpy_generator(seed, "repeat", run).integers(n_rows, size=n_rows)
            weights = np.bincount(drawn, minlength=n_rows)
            probabilities = _fit(task, train, {"validation": validation}, weights, seed)["validation"]
            decisions = _decide(task, train, probabilities)
            scores.append(score(task, probabilities, validation.targets, decisions)[metric])
            bar.advance(note=f"{metric} {scores[-1]:.4f}")
    interval = bootstrap(
        task,
        probabilities,
        validation.targets,
        decisions,
        names=[metric],
        resamples=resamples,
        seed=seed,
    )[metric]
    return Noise(metric, scores, spread(scores), (interval.high - interval.low) / (2 * 1.96))


@dataclass(frozen=True)
class Rung:
    """A model fitted to a share of the training rows, and what it scores on each part."""

    share: float
    scores: Mapping[str, float]


def ladder(
    task: Task,
    train: BaselinePart,
    parts: Mapping[str, BaselinePart],
    *,
    metric: str,
    seed: int,
    shares: Sequence[float] = RUNGS,
    reporter: Reporter | None = None,
) -> list[Rung]:
    """Fit models of different quality, each to a larger share of the training rows, and score them.

    Of few rows some shares are the same number, at least :data:`FEWEST`, and count once.
    """
    sizes = sorted({min(max(FEWEST, round(share * len(train))), len(train)) for share in shares})
    order = numpy_generator(seed, "ladder").permutation(len(train))
    rungs = []
    with (reporter or Reporter()).bar("fitting models of different quality", len(sizes), "models") as bar:
        for size in sizes:
            weights = np.zeros(len(train), dtype=np.int64)
            weights[order[:size]] = 1
            found = _fit(task, train, parts, weights, seed)
            scores = {
                name: score(task, found[name], part.targets, _decide(task, train, found[name]))[metric]
                for name, part in parts.items()
            }
            rungs.append(Rung(size / len(train), scores))
            bar.advance(note=", ".join(f"{part} {value:.4f}" for part, value in scores.items()))
    return rungs


def _fit(
    task: Task,
    train: BaselinePart,
    parts: Mapping[str, BaselinePart],
    times: NDArray[np.int64],
    seed: int,
) -> dict[str, NDArray[np.float32]]:
    """Probabilities of each part, of a model that sees each training row as often as ``times`` (N,) says."""
    weights = times.astype(np.float32) * (1.0 if train.weights is None else train.weights)
    drawn = BaselinePart(train.texts, train.targets, weights.astype(np.float32), train.pairs, train.numbers)
    return fit_baselines(task, drawn, parts, only=[TFIDF], seed=seed)[TFIDF].probabilities


def _decide(task: Task, train: BaselinePart, probabilities: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Decide each row (N, C); of several labels each is decided as often as training has it.

    Probabilities of a rare label seldom reach 0.5, and what is never decided has no noise to be measured.
    """
    if task.kind != "multilabel":
        return task.decide(probabilities)
    n_rows = len(probabilities)
    wanted = np.ceil((train.targets >= 0.5).mean(axis=0) * n_rows).astype(np.int64)
    order = np.argsort(-probabilities, axis=0, kind="stable")
    decisions = np.zeros(probabilities.shape, dtype=np.bool_)
    np.put_along_axis(decisions, order, np.arange(n_rows)[:, None] < wanted, axis=0)
    return decisions

"""Small tables with numbers, holes and categories, whose labels follow from them."""

from __future__ import annotations

import numpy as np

from etude.estimators import Features, Sample


def features(n: int, seed: int = 0, *, n_codes: int = 6) -> Features:
    """Three numbers, a tenth of them missing, and two categories of which a few are missing (code 0)."""
    draw = np.random.default_rng(seed)
    numbers = draw.normal(size=(n, 3))
    numbers[draw.random(numbers.shape) < 0.1] = np.nan
    categories = np.stack([draw.integers(0, n_codes, n), draw.integers(0, 3, n)], axis=1)
    return Features(numbers, categories.astype(np.int64))


def scores(rows: Features, n_classes: int, seed: int = 0) -> np.ndarray:
    """What the labels follow from: (N, C)."""
    draw = np.random.default_rng(100)
    weight, shift = draw.normal(size=(3, n_classes)), draw.normal(size=(400, n_classes))
    noise = np.random.default_rng(seed).gumbel(size=(len(rows), n_classes))
    return 2 * np.nan_to_num(rows.numbers) @ weight + 2 * shift[rows.categories[:, 0]] + noise


def sample(n: int, n_classes: int, seed: int = 0, *, multilabel: bool = False, n_codes: int = 6) -> Sample:
    """Rows with one of C classes each, or with any of them."""
    rows = features(n, seed, n_codes=n_codes)
    score = scores(rows, n_classes, seed)
    targets = (score > 0.5) if multilabel else np.eye(n_classes)[score.argmax(axis=1)]
    return Sample(rows, targets.astype(np.float64), np.ones(n))


def take(whole: Sample, rows: np.ndarray) -> Sample:
    """Some of the rows."""
    found = Features(whole.features.numbers[rows], whole.features.categories[rows])
    return Sample(found, whole.targets[rows], whole.weights[rows])

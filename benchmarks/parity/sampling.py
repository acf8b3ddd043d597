"""Sampling against formulae written out row by row, in float64."""

from collections.abc import Iterator

import numpy as np

from etude.techniques.sampling.oversample import repeat_classes, repeat_labels
from etude.techniques.sampling.weighted_sampling import row_weights

SEED = 0


def rows() -> Iterator[tuple[str, str, float]]:
    """Yield technique, reference, and the largest absolute difference in float64."""
    rng = np.random.default_rng(SEED)
    weights = np.array([0.1, 0.0, *[1.0] * 8])
    classes = rng.integers(0, 10, 500)
    ours = row_weights(np.eye(10)[classes], weights, "sum")
    chances = np.array([weights[c] for c in classes])
    apart = abs(ours / ours.sum() - chances / chances.sum()).max()
    yield "weighted_sampling", "each row's class weight, normalised to sum 1", float(apart)

    held = rng.random((300, 10)) < 0.2
    listed = np.array([[weights[c] for c in np.flatnonzero(row)] or [0.1] for row in held], dtype=object)
    for combine, reference in (("max", max), ("mean", np.mean)):
        found = row_weights(held.astype(float), weights, combine)
        by_row = np.array([float(reference(row)) for row in listed])
        yield (
            "weighted_sampling",
            f"{combine} of each row's label weights, row by row",
            float(abs(found - by_row).max()),
        )

    drawn = repeat_classes(classes, 1.0, rng)
    places = np.bincount(classes[drawn], minlength=10)
    yield "oversample", "equal class frequencies", float(abs(places - np.bincount(classes).max()).max())

    counts = held.sum(axis=0)
    factors = [max([counts.max() / counts[c] for c in np.flatnonzero(row)] or [1.0]) for row in held]
    shown = np.bincount(repeat_labels(held, 1.0, rng), minlength=len(held))
    # A repeat is its factor rounded down or up: what lies further off is an error.
    beyond = np.maximum(np.floor(factors) - shown, shown - np.ceil(factors)).clip(min=0.0)
    yield "oversample", "repeat factors of rows with several labels, row by row", float(beyond.max())

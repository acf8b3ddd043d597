"""Curricula against NumPy and formulae written out, in float64."""

from collections.abc import Iterator

import numpy as np

from etude.techniques.curriculum.growing_batch import grown
from etude.techniques.curriculum.progressive_dropout import dropout_rate
from etude.techniques.curriculum.ramp import ramp


def rows() -> Iterator[tuple[str, str, float]]:
    """Yield technique, reference, and the largest absolute difference in float64."""
    steps = np.arange(60)
    ours = np.array([ramp(int(step), 7, 43, 0.3, -1.7) for step in steps])
    yield "ramp", "numpy.interp", float(abs(ours - np.interp(steps, [7, 43], [0.3, -1.7])).max())

    p0, p1, rise = 0.0, 0.5, 2
    ours = np.array([dropout_rate(p0, p1, epoch / rise) for epoch in range(6)])
    theirs = np.array([min(p0 + epoch / rise * (p1 - p0), p1) for epoch in range(6)])
    yield "progressive_dropout", "min(p0 + e / E · (p1 - p0), p1)", float(abs(ours - theirs).max())

    sizes = np.array([grown(32, 2.0, [2, 4], epoch) for epoch in range(6)])
    yield (
        "growing_batch",
        "32, 64, 128, two epochs each",
        float(abs(sizes - [32, 32, 64, 64, 128, 128]).max()),
    )

"""Compare several runs on the same rows: each against the first, with the luck of many tests counted in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from etude.errors import ConfigError
from etude.evaluation.bootstrap import bootstrap
from etude.evaluation.metrics import score
from etude.evaluation.names import find_metric
from etude.evaluation.paired import Difference
from etude.evaluation.paired_seeds import holm
from etude.runs.compare import compare, read_part


@dataclass(frozen=True)
class Ranked:
    """One run among others.

    Attributes:
        run: its folder.
        score, low, high: the main metric with its 95 % interval.
        difference: to the first run, none of the first itself.
        p: of the difference, corrected by Holm's method for the number of runs.
    """

    run: str
    score: float
    low: float
    high: float
    difference: Difference | None
    p: float | None


@dataclass(frozen=True)
class Ranking:
    """Several runs on the same rows of one part, the best first.

    Attributes:
        first: the run that the others are compared with.
        part: which part of the data.
        rows: how many rows it has.
        metric: the metric that ranks them.
        runs: the best first.
    """

    first: str
    part: str
    rows: int
    metric: str
    runs: list[Ranked]

    def to_json(self) -> dict[str, Any]:
        """Everything by name, for a file."""
        return asdict(self)


def rank(paths: Sequence[Path], part: str = "test", *, resamples: int = 1000) -> Ranking:
    """Compare runs with the first of them, and sort them by the task's main metric.

    Args:
        paths: the runs' folders, the one to compare with first.
        part: ``"test"`` or ``"validation"``.
        resamples: how often the rows are drawn.

    Raises:
        RunError: as :func:`etude.runs.compare.compare`.
        ConfigError: a folder is named twice.
    """
    twice = [path for i, path in enumerate(paths) if path.resolve() in {p.resolve() for p in paths[:i]}]
    if twice:
        raise ConfigError(f"{twice[0]} is named twice; name each run once")
    comparisons = [compare(paths[0], path, part, resamples=resamples) for path in paths[1:]]
    metric = comparisons[0].main_metric
    differences = [found.differences.get(metric) for found in comparisons]
    corrected = holm([1.0 if found is None else found.p for found in differences])
    against: list[tuple[Difference | None, float | None]] = [
        (None, None), *zip(differences, corrected, strict=True)
    ]  # fmt: skip
    ranked = []
    for path, (difference, p) in zip(paths, against, strict=True):
        scored = read_part(path, part)
        answers = scored.probabilities, scored.targets, scored.decisions
        value = score(scored.task, *answers, [metric])[metric]
        found = bootstrap(scored.task, *answers, names=[metric], resamples=resamples)[metric]
        ranked.append(Ranked(str(path), value, found.low, found.high, difference, p))
    sign = -1.0 if find_metric(metric).greater_is_better else 1.0
    ranked.sort(key=lambda run: (not np.isfinite(run.score), sign * run.score))
    return Ranking(str(paths[0]), part, comparisons[0].rows, metric, ranked)

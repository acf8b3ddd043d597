"""The best runs of a study, or trials of a tuning, as members of an ensemble or ingredients of a soup."""

from __future__ import annotations

import json
from pathlib import Path

from etude.errors import ConfigError, RunError
from etude.runs.folder import CONFIG, SUMMARY, RunFolder
from etude.search.kept import TRIALS
from etude.search.run_store import RUNS


def best_of_study(folder: Path, n: int) -> list[Path]:
    """Return the n runs of a study with the best main metric on the rows of one seed, best first.

    Scores of other seeds are of other rows, so that the runs of the seed that most variants have are ranked.

    Args:
        folder: the study's, which kept its models.
        n: how many.

    Raises:
        ConfigError: n is less than two.
        RunError: the study kept too few models.
    """
    if n < 2:
        raise ConfigError(f"--top is {n} and must be at least 2")
    by_seed: dict[int, list[tuple[float, Path]]] = {}
    for path in sorted(path for kept in (RUNS, TRIALS) for path in folder.glob(f"{kept}/*/{CONFIG}")):
        run, config = RunFolder.open(path.parent)
        try:
            summary = json.loads((run.path / SUMMARY).read_text(encoding="utf-8"))
            metric = "f1_macro" if summary["task"] == "multilabel" else "accuracy"
            value = float(summary["metrics"]["validation"][metric])
        except (OSError, ValueError, KeyError, TypeError):
            continue  # a kill came before its scores
        by_seed.setdefault(config.seed, []).append((value, run.path))
    runs = max(by_seed.values(), key=len, default=[])
    if len(runs) < n:
        raise RunError(
            f"{folder} holds models of {len(runs)} variants on one seed and {n} are wanted; keep more "
            f"with --set study.keep=models or --set tune.keep={n}, or lower --top"
        )
    return [path for _, path in sorted(runs, key=lambda run: (-run[0], run[1]))[:n]]

"""What calibration and thresholds are worth on rows that had no part in choosing them.

    python benchmarks/calibration.py RUN_FOLDER

Reads the run's validation predictions, fits the decision on some of the rows and scores it on the others,
several times over with other rows: the calibration error before and after, and the macro F1 of each way to
choose thresholds, for several numbers of rows. The defaults of the ``[decision]`` section were chosen so.
Writes ``benchmarks/results/calibration_NAME.json``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etude.config.decision import DecisionConfig
from etude.core.rng import numpy_generator
from etude.core.task import Task, make_task
from etude.decision import Decision
from etude.evaluation.metrics import score
from etude.evaluation.reliability import calibration_scores

KINDS = ("none", "auto", "temperature", "vector", "platt", "isotonic")
SHRINKAGES = (0, 1, 3, 10, 30, 100)
CHOICES: Mapping[str, Mapping[str, Any]] = {
    "0.5 or the likeliest": {"thresholds": "fixed"},
    "global (macro)": {"thresholds": "global"},
    "global (micro)": {"thresholds": "global", "metric": "f1_micro"},
    **{f"per label, shrinkage {s}": {"thresholds": "per_label", "shrinkage": s} for s in SHRINKAGES},
    "cross-validated, averaged": {"thresholds": "cross_validated"},
    "cross-validated, out of fold": {"thresholds": "cross_validated", "combine": "out_of_fold"},
}  # fmt: skip


def halves(rows: int, size: int, repeat: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows to fit on, and all others."""
    order = numpy_generator(repeat, "calibration benchmark", size).permutation(rows)
    return order[:size], order[size:]


def f1_macro(task: Task, decision: Decision, logits: NDArray[Any], targets: NDArray[Any]) -> float:
    """Macro F1 of the decision's labels."""
    probabilities, decisions = decision.apply(logits)
    return score(task, probabilities, targets, decisions, ["f1_macro"])["f1_macro"]


def measure(
    task: Task, logits: NDArray[Any], targets: NDArray[Any], size: int, repeats: int
) -> dict[str, dict[str, list[float]]]:
    """ECE, Brier and NLL of each calibration, and macro F1 of each choice of thresholds, of every repeat."""
    found: dict[str, dict[str, list[float]]] = {"ece": {}, "brier": {}, "nll": {}, "f1_macro": {}}
    for repeat in range(repeats):
        fit, other = halves(len(logits), size, repeat)
        for kind in KINDS:
            config = DecisionConfig(calibration=kind, thresholds="fixed")
            decision = Decision.fit(task, config, logits[fit], targets[fit], seed=repeat)
            scores = calibration_scores(task, decision.probabilities(logits[other]), targets[other])
            for name, value in scores.items():
                found[name].setdefault(kind, []).append(value)
        for name, settings in CHOICES.items():
            config = DecisionConfig(**settings)
            decision = Decision.fit(task, config, logits[fit], targets[fit], seed=repeat)
            value = f1_macro(task, decision, logits[other], targets[other])
            found["f1_macro"].setdefault(name, []).append(value)
    return found


def show(found: dict[int, dict[str, dict[str, list[float]]]]) -> None:
    """Print a table of means: a row for each choice, a column for each number of rows."""
    sizes = list(found)
    for metric, percent in (("ece", 100), ("nll", 1), ("f1_macro", 100)):
        print(f"\n{metric:32}" + "".join(f"{size:>10}" for size in sizes))
        for name in found[sizes[0]][metric]:
            values = [found[size][metric][name] for size in sizes]
            print(f"{name:32}" + "".join(f"{percent * mean(v):10.3f}" for v in values))
        if metric == "f1_macro":
            plain = [found[size][metric]["0.5 or the likeliest"] for size in sizes]
            best = [found[size][metric]["per label, shrinkage 10"] for size in sizes]
            gains = [[b - p for b, p in zip(*pair, strict=True)] for pair in zip(best, plain, strict=True)]
            print(f"{'gain of per label (sd)':32}" + "".join(f"{100 * stdev(g):10.3f}" for g in gains))


def read(folder: Path) -> tuple[Task, NDArray[np.float32], NDArray[np.float32]]:
    """The task, logits and targets of a run's validation part."""
    from etude.runs.folder import find_model, read_metadata
    from etude.runs.predictions import read_predictions

    metadata = read_metadata(find_model(folder))
    task = make_task(metadata["task"], metadata["labels"])
    scored = read_predictions(folder, "validation", task)
    if scored is None:
        raise SystemExit(f"{folder} has no predictions of a validation part")
    return task, scored.logits, scored.targets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sizes", type=int, nargs="*", default=[30, 50, 100, 200, 500, 1000, 2000])
    parser.add_argument("--repeats", type=int, default=8)
    given = parser.parse_args()
    task, logits, targets = read(given.folder)
    found = {}
    for size in [size for size in given.sizes if size <= len(logits) // 2]:
        found[size] = measure(task, logits, targets, size, given.repeats)
        print(f"{size} rows measured", flush=True)
    show(found)
    path = Path(__file__).parent / "results" / f"calibration_{given.folder.name}.json"
    path.write_text(json.dumps({"rows": len(logits), "repeats": given.repeats, "sizes": found}, indent=1))


if __name__ == "__main__":
    main()

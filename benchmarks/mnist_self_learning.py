"""Self-learning on MNIST with its settings chosen on validation parts, then against the base case.

    python benchmarks/mnist_self_learning.py

Eight settings (schedule, shifts, and the rounds between which the rows without labels join) are tried with
three seeds; the best mean accuracy on the validation part of 1,000 images chooses. Then the chosen settings,
the same without self-learning and ``recipes/mnist/base.toml`` run with five other seeds, and the test part is
scored. Writes ``benchmarks/results/mnist_self_learning.json``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
BASE = ROOT / "recipes" / "mnist" / "base.toml"
SCHEDULES = ("constant", "linear")
SHIFTS = (False, True)
ROUNDS = ((1, 5), (5, 9))
CHOOSING_SEEDS = (10, 11, 12)
SEEDS = (0, 1, 2, 3, 4)


def overrides_of(schedule: str, *, shifts: bool, rounds: tuple[int, int] | None) -> list[str]:
    """What is changed in base.toml."""
    changes = [f"schedule.name={schedule}"]
    if shifts:
        changes.append("techniques.random_crop_flip.padding=0.07")
    if rounds is not None:
        changes += ["data.unlabelled=rest", f"techniques.self_learning.start={rounds[0]}",
                    f"techniques.self_learning.end={rounds[1]}"]  # fmt: skip
    return changes


def one_run(job: tuple[list[str], int]) -> dict[str, Any]:
    """Train base.toml with changes on one thread; the accuracies and the time."""
    import torch

    torch.set_num_threads(1)
    from etude.api import train

    changes, seed = job
    with tempfile.TemporaryDirectory() as folder:
        run = ["run.report=false", "run.resamples=0", f"run.dir={folder}/run", f"seed={seed}"]
        result = train(BASE, overrides=[*changes, *run])
    accuracies = {part: scores["accuracy"] for part, scores in result.scores.items()}
    return {"seed": seed, "seconds": result.seconds, **accuracies}


def shown(values: list[float]) -> str:
    error = statistics.stdev(values) / len(values) ** 0.5
    return f"{100 * statistics.mean(values):+6.2f} ± {100 * error:4.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--processes", type=int, default=2, help="runs at a time, one thread each")
    given = parser.parse_args()
    settings = list(itertools.product(SCHEDULES, SHIFTS, ROUNDS))
    with ProcessPoolExecutor(given.processes, mp_context=get_context("spawn")) as pool:
        jobs = [
            (overrides_of(schedule, shifts=shifts, rounds=rounds), seed)
            for schedule, shifts, rounds in settings
            for seed in CHOOSING_SEEDS
        ]
        found = list(pool.map(one_run, jobs))
        tried = []
        for at, (schedule, shifts, rounds) in enumerate(settings):
            runs = found[at * len(CHOOSING_SEEDS) : (at + 1) * len(CHOOSING_SEEDS)]
            tried.append({"schedule": schedule, "shifts": shifts, "rounds": rounds, "runs": runs})
            validation = [run["validation"] for run in runs]
            print(
                f"{schedule:<9} shifts {shifts!s:<6} rounds {rounds}   validation {shown(validation)}",
                flush=True,
            )
        best = max(tried, key=lambda item: statistics.mean(run["validation"] for run in item["runs"]))
        schedule, shifts = best["schedule"], best["shifts"]
        contestants = {
            "base": overrides_of("constant", shifts=False, rounds=None),
            "control": overrides_of(schedule, shifts=shifts, rounds=None),
            "self_learning": overrides_of(schedule, shifts=shifts, rounds=best["rounds"]),
        }
        jobs = [(changes, seed) for changes in contestants.values() for seed in SEEDS]
        found = list(pool.map(one_run, jobs))
    print(f"\nchosen: {schedule}, shifts {shifts}, rounds {best['rounds']}")
    finals = {name: found[at * len(SEEDS) : (at + 1) * len(SEEDS)] for at, name in enumerate(contestants)}
    test = {name: [run["test"] for run in runs] for name, runs in finals.items()}
    for name, values in test.items():
        print(f"{name:<14} test {shown(values)}")
    for other in ("base", "control"):
        gains = [a - b for a, b in zip(test["self_learning"], test[other], strict=True)]
        print(f"gain over {other:<8} {shown(gains)}")
    from etude.runs.folder import environment

    path = ROOT / "benchmarks" / "results" / "mnist_self_learning.json"
    chosen = {key: best[key] for key in ("schedule", "shifts", "rounds")}
    content = {"tried": tried, "chosen": chosen, "runs": finals, "environment": environment(0)}
    path.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()

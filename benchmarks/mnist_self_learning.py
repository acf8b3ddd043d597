"""Self-learning on MNIST with its settings chosen on validation parts, then against the base case.

    python benchmarks/mnist_self_learning.py

Eight settings (schedule, shifts, and the rounds between which the rows without labels join) are tried with
three seeds, and the better half of them with seven more; the best mean accuracy on the validation part of
1,000 images chooses. Then the chosen settings, the same without self-learning and
``recipes/mnist/base.toml`` run with five other seeds, and the test part is scored. Writes
``benchmarks/results/mnist_self_learning.json``; trials that this file holds already are not repeated.
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
RESULTS = ROOT / "benchmarks" / "results" / "mnist_self_learning.json"
BASE = ROOT / "recipes" / "mnist" / "base.toml"
SCHEDULES = ("constant", "linear")
SHIFTS = (False, True)
ROUNDS = ((1, 5), (5, 9))
FIRST_SEEDS = (10, 11, 12)
FURTHER_SEEDS = (13, 14, 15, 16, 17, 18, 19)
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


Setting = tuple[str, bool, tuple[int, int]]
"""The schedule, whether images are shifted, and the rounds of the curriculum."""


def changes_of(setting: Setting) -> list[str]:
    schedule, shifts, rounds = setting
    return overrides_of(schedule, shifts=shifts, rounds=rounds)


def mean_validation(runs: list[dict[str, Any]]) -> float:
    return statistics.mean(run["validation"] for run in runs)


def known_trials() -> dict[Setting, list[dict[str, Any]]]:
    """The trials of an earlier call."""
    if not RESULTS.is_file():
        return {}
    tried = json.loads(RESULTS.read_text(encoding="utf-8"))["tried"]
    return {(item["schedule"], item["shifts"], tuple(item["rounds"])): item["runs"] for item in tried}


def try_settings(
    settings: list[Setting], seeds: tuple[int, ...], tried: dict[Setting, list[dict[str, Any]]], pool: Any
) -> None:
    """Add the trials of some seeds to what was tried."""
    done = {(setting, run["seed"]) for setting, runs in tried.items() for run in runs}
    jobs = [(setting, seed) for setting in settings for seed in seeds if (setting, seed) not in done]
    runs = pool.map(one_run, [(changes_of(setting), seed) for setting, seed in jobs])
    for (setting, _), run in zip(jobs, runs, strict=True):
        tried.setdefault(setting, []).append(run)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--processes", type=int, default=2, help="runs at a time, one thread each")
    given = parser.parse_args()
    settings: list[Setting] = list(itertools.product(SCHEDULES, SHIFTS, ROUNDS))
    tried = known_trials()
    with ProcessPoolExecutor(given.processes, mp_context=get_context("spawn")) as pool:
        try_settings(settings, FIRST_SEEDS, tried, pool)

        def first_mean(setting: Setting) -> float:
            return mean_validation([run for run in tried[setting] if run["seed"] in FIRST_SEEDS])

        better = sorted(settings, key=first_mean, reverse=True)[: len(settings) // 2]
        try_settings(better, FURTHER_SEEDS, tried, pool)
        for setting in settings:
            validation = [run["validation"] for run in tried[setting]]
            print(f"{setting!s:<34} {len(validation):2} seeds   validation {shown(validation)}", flush=True)
        best = max(better, key=lambda setting: mean_validation(tried[setting]))
        schedule, shifts, rounds = best
        contestants = {
            "base": overrides_of("constant", shifts=False, rounds=None),
            "control": overrides_of(schedule, shifts=shifts, rounds=None),
            "self_learning": changes_of(best),
        }
        jobs = [(changes, seed) for changes in contestants.values() for seed in SEEDS]
        found = list(pool.map(one_run, jobs))
    print(f"\nchosen: {schedule}, shifts {shifts}, rounds {rounds}")
    finals = {name: found[at * len(SEEDS) : (at + 1) * len(SEEDS)] for at, name in enumerate(contestants)}
    test = {name: [run["test"] for run in runs] for name, runs in finals.items()}
    for name, values in test.items():
        print(f"{name:<14} test {shown(values)}")
    for other in ("base", "control"):
        gains = [a - b for a, b in zip(test["self_learning"], test[other], strict=True)]
        print(f"gain over {other:<8} {shown(gains)}")
    from etude.runs.folder import environment

    content = {
        "tried": [
            {"schedule": setting[0], "shifts": setting[1], "rounds": setting[2], "runs": runs}
            for setting, runs in tried.items()
        ],
        "chosen": {"schedule": schedule, "shifts": shifts, "rounds": rounds},
        "runs": finals,
        "environment": environment(0),
    }
    RESULTS.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

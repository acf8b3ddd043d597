"""The recipes of recipes/mnist over several seeds: test accuracy, mean and standard error, and the time.

    python benchmarks/mnist_recipes.py --seeds 5

Each recipe changes one thing of base.toml; the difference to it is taken seed by seed. The test part is
scored once at the end of each run and chooses nothing. Writes ``benchmarks/results/mnist_recipes.json``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RECIPES = ROOT / "recipes" / "mnist"
FIRST = ("base", "teacher")
"""What others are compared with, or learn from."""


def one_run(name: str, seed: int, folder: Path) -> dict[str, Any]:
    from etude.api import train
    from etude.config.load import load_config

    config = load_config(RECIPES / f"{name}.toml")
    overrides = [
        f"seed={seed}",
        f"run.dir={folder / f'{name}-{seed}'}",
        "run.report=false",
        "run.resamples=0",
    ]
    if "similarity_distillation" in config.techniques:
        overrides.append(f"techniques.similarity_distillation.teacher={folder / f'teacher-{seed}'}")
    start = time.perf_counter()
    result = train(RECIPES / f"{name}.toml", overrides=overrides)
    seconds = time.perf_counter() - start
    return {"seed": seed, "accuracy": result.scores["test"]["accuracy"],
            "seconds": seconds, "training_seconds": result.seconds}  # fmt: skip


def error_of(values: list[float]) -> float:
    return statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", nargs="*", help="names of recipes; base and teacher run in any case")
    given = parser.parse_args()
    found = [path.stem for path in sorted(RECIPES.glob("*.toml")) if path.stem not in FIRST]
    names = [*FIRST, *(name for name in found if not given.only or name in given.only)]
    runs: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            runs[name] = [one_run(name, seed, Path(folder)) for seed in range(given.seeds)]
            scores = [100 * run["accuracy"] for run in runs[name]]
            gains = [a - 100 * b["accuracy"] for a, b in zip(scores, runs["base"], strict=True)]
            seconds = statistics.median(run["training_seconds"] for run in runs[name])
            shown = f"{name:<24} {statistics.mean(scores):6.2f} ± {error_of(scores):4.2f}"
            gained = f"{statistics.mean(gains):+5.2f} ± {error_of(gains):4.2f}"
            print(f"{shown}   against base {gained}   {seconds:5.1f} s", flush=True)
    from etude.runs.folder import environment

    path = ROOT / "benchmarks" / "results" / "mnist_recipes.json"
    path.write_text(json.dumps({"runs": runs, "environment": environment(0)}, indent=2) + "\n")


if __name__ == "__main__":
    main()

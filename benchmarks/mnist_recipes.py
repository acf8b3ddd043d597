"""The recipes of recipes/mnist over several seeds: test accuracy, mean and standard error, time, and curves.

    python benchmarks/mnist_recipes.py --seeds 5

Each recipe changes one thing of base.toml; the difference to it is taken seed by seed. The test part is
scored once at the end of each run and chooses nothing. Two runs go on side by side, on one thread each.
Writes ``benchmarks/results/mnist_recipes.json`` and the picture ``docs/mnist/curves.png``; ``--draw`` draws
that picture anew from the file.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RECIPES = ROOT / "recipes" / "mnist"
RESULTS = ROOT / "benchmarks" / "results" / "mnist_recipes.json"
PICTURE = ROOT / "docs" / "mnist" / "curves.png"
FIRST = ("base", "teacher")
"""What others are compared with, or learn from."""


def one_run(job: tuple[str, int, str]) -> dict[str, Any]:
    import torch

    torch.set_num_threads(1)
    from etude.api import train
    from etude.config.load import load_config

    name, seed, folder = job
    config = load_config(RECIPES / f"{name}.toml")
    run = Path(folder) / f"{name}-{seed}"
    overrides = [f"seed={seed}", f"run.dir={run}", "run.report=false", "run.resamples=0"]
    if "similarity_distillation" in config.techniques:
        overrides.append(f"techniques.similarity_distillation.teacher={Path(folder) / f'teacher-{seed}'}")
    start = time.perf_counter()
    result = train(RECIPES / f"{name}.toml", overrides=overrides)
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {
        "seed": seed,
        "accuracy": result.scores["test"]["accuracy"],
        "seconds": time.perf_counter() - start,
        "training_seconds": result.seconds,
        "curve": [[r["epoch"], r["validation"]["accuracy"]] for r in records if "validation" in r],
    }


def error_of(values: list[float]) -> float:
    return statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")


def print_row(name: str, runs: list[dict[str, Any]], base: list[dict[str, Any]]) -> None:
    scores = [100 * run["accuracy"] for run in runs]
    gains = [a - 100 * b["accuracy"] for a, b in zip(scores, base, strict=True)]
    seconds = statistics.median(run["training_seconds"] for run in runs)
    shown = f"{name:<24} {statistics.mean(scores):6.2f} ± {error_of(scores):4.2f}"
    gained = f"{statistics.mean(gains):+5.2f} ± {error_of(gains):4.2f}"
    print(f"{shown}   against base {gained}   {seconds:5.1f} s", flush=True)


def draw(runs: dict[str, list[dict[str, Any]]]) -> None:
    """A small plane for each recipe: its mean validation accuracy by epoch, the base case's behind it."""
    from matplotlib.figure import Figure

    def curve(name: str) -> tuple[list[int], list[float], list[float]]:
        curves = [dict(map(tuple, run["curve"])) for run in runs[name]]
        epochs = sorted(set.intersection(*(set(found) for found in curves)))
        values = [[100 * found[epoch] for found in curves] for epoch in epochs]
        done = [epoch + 1 for epoch in epochs]
        return done, [statistics.mean(v) for v in values], [error_of(v) for v in values]

    names = [name for name in runs if name not in FIRST]
    columns = 3
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(9.6, 2.5 * rows), layout="constrained", dpi=110)
    planes = figure.subplots(rows, columns, sharex=True, sharey=True).flat
    for plane, name in zip(planes, names, strict=False):
        for of, colour, label in (("base", "#9a9a9a", "base case"), (name, "#1f5fa8", "this recipe")):
            epochs, mean, error = curve(of)
            low, high = ([m + sign * e for m, e in zip(mean, error, strict=True)] for sign in (-1, 1))
            plane.fill_between(epochs, low, high, color=colour, alpha=0.2, linewidth=0)
            plane.plot(epochs, mean, color=colour, linewidth=1.6, label=label)
        plane.set_title(name.replace("_", " "), fontsize=10, loc="left")
        plane.set_ylim(75, 100)
        plane.grid(visible=True, color="#e4e4e4", linewidth=0.6)
        plane.spines[["top", "right"]].set_visible(False)
    for plane in figure.axes[len(names) :]:
        plane.set_axis_off()
    for plane in figure.axes[len(names) - columns : len(names)]:
        plane.tick_params(labelbottom=True)
    figure.axes[0].legend(frameon=False, fontsize=8, loc="lower right")
    figure.supxlabel("epoch", fontsize=9)
    figure.supylabel("validation accuracy, %", fontsize=9)
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PICTURE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--processes", type=int, default=2, help="runs at a time, one thread each")
    parser.add_argument("--only", nargs="*", help="names of recipes; base and teacher run in any case")
    parser.add_argument("--draw", action="store_true", help="draw the picture of the last results")
    given = parser.parse_args()
    if given.draw:
        draw(json.loads(RESULTS.read_text())["runs"])
        return
    found = [path.stem for path in sorted(RECIPES.glob("*.toml")) if path.stem not in FIRST]
    names = [*FIRST, *(name for name in found if not given.only or name in given.only)]
    runs: dict[str, list[dict[str, Any]]] = {}
    context = get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(given.processes, context) as pool:
        for name in names:  # one after the other, since some learn from the teacher
            runs[name] = list(pool.map(one_run, [(name, seed, folder) for seed in range(given.seeds)]))
            print_row(name, runs[name], runs["base"])
    from etude.runs.folder import environment

    RESULTS.write_text(json.dumps({"runs": runs, "environment": environment(0)}, indent=2) + "\n")
    draw(runs)


if __name__ == "__main__":
    main()

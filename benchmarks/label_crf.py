"""Label CRF against independent sigmoids, in subset accuracy, on the real engine with paired seeds.

    python benchmarks/label_crf.py PATH/music_emotions --out benchmarks/results/label_crf.json

The folder holds train.csv and test.csv, with the labels in columns ``label:NAME``. Every seed gives the
runs the same first weights, the same batches and the same dropout; only the loss, and what stands on
top of the head, differs. Nothing is chosen by the test rows: the settings are the defaults.
"""

from __future__ import annotations

import argparse
import csv
import json
import platform
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from etude.core.engine import Engine, Settings
from etude.core.predict import predict
from etude.core.task import Task, make_task
from etude.core.technique import Context
from etude.core.timetable import build_timed_plan
from etude.techniques import technique_class
from etude.testing.tiny import TinyMLP, cpu_accelerator

RUNS: dict[str, dict[str, dict[str, Any]]] = {
    "bce": {"bce": {}},
    "label_crf": {"label_crf": {}},
    "label_crf, pseudo": {"label_crf": {"training": "pseudo"}},
    "classifier_chain": {"classifier_chain": {}},
}
COMMON: dict[str, dict[str, Any]] = {"adamw": {"lr": 3e-3, "weight_decay": 0.1}, "cosine": {}}


class Numbers:
    """Rows of numbers as examples."""

    def __init__(self, numbers: NDArray[Any], targets: NDArray[Any]) -> None:
        self._numbers = torch.from_numpy(numbers.astype(np.float32))
        self.targets = torch.from_numpy(targets.astype(np.float32))
        self.weights = torch.ones(len(numbers))
        self.lengths = np.ones(len(numbers), dtype=np.int64)

    def __len__(self) -> int:
        return len(self.weights)

    def inputs(self, rows: NDArray[np.int64]) -> dict[str, Tensor]:
        return {"numbers": self._numbers[torch.from_numpy(rows)]}


def read(path: Path) -> tuple[list[str], NDArray[Any], NDArray[Any]]:
    with path.open(newline="") as file:
        header, *rows = list(csv.reader(file))
    table = np.array(rows, dtype=np.float64)
    is_label = np.array([name.startswith("label:") for name in header])
    labels = [name.removeprefix("label:") for name in header if name.startswith("label:")]
    return labels, table[:, ~is_label], table[:, is_label]


def trained(
    train: Numbers, task: Task, recipe: dict[str, dict[str, Any]], seed: int, epochs: int
) -> tuple[Engine, float]:
    """Return the engine of a finished run, and its seconds."""
    width = train.inputs(np.arange(1))["numbers"].shape[1]
    backbone = TinyMLP(task.n_classes, d_in=width, d_hidden=64, dropout=0.3, seed=seed)
    with torch.no_grad():
        for value in backbone.parameters():
            if value.dim() > 1:  # the tiny backbone's first weights are for six columns
                value.mul_(value.shape[1] ** -0.5 / 0.3)
    batch_size = 32
    steps = -(-len(train) // batch_size)
    context = Context(
        task=task, backbone=backbone, class_counts=train.targets.sum(dim=0).numpy(), n_rows=len(train),
        batch_size=batch_size, steps_per_epoch=steps, total_steps=steps * epochs, seed=seed,
        load_model=lambda _: backbone, epoch_steps=(steps,) * epochs,
    )  # fmt: skip

    def techniques() -> list[Any]:
        chosen = {**COMMON, **recipe}
        return [technique_class(n)(technique_class(n).Config(name=n, **s)) for n, s in chosen.items()]

    plan = build_timed_plan(techniques, context, train, None)
    settings = Settings(
        epochs=epochs, total_steps=steps * epochs, batch_size=batch_size, micro_batch_size=batch_size,
        evaluate_every=0, save_every=0, log_every=10**6,
    )  # fmt: skip
    engine = Engine(plan, backbone, train, cpu_accelerator(), settings)
    start = time.perf_counter()
    engine.fit()
    return engine, time.perf_counter() - start


def scores_of(engine: Engine, test: Numbers, seconds: float) -> dict[str, float]:
    task = engine.plan.context.task
    probabilities = task.probabilities(predict(engine.model, test, engine.accelerator)).numpy()
    said, truth = task.decide(probabilities), test.targets.numpy() >= 0.5
    both = (said & truth).sum()
    return {
        "subset_accuracy": float((said == truth).all(axis=1).mean()),
        "f1_micro": float(2 * both / (said.sum() + truth.sum())),
        "hamming_loss": float((said != truth).mean()),
        "seconds": seconds,
    }


def both_decoded(engine: Engine, test: Numbers, name: str, seconds: float) -> dict[str, dict[str, float]]:
    """Score a run; a CRF by its marginals, and by its likeliest set too, which training does not know."""
    found = {name: scores_of(engine, test, seconds)}
    if name.startswith("label_crf"):
        engine.backbone.head.labels.decode = "map"
        found[f"{name}, map"] = scores_of(engine, test, seconds)
    return found


def compare(found: dict[str, list[dict[str, float]]], metric: str) -> dict[str, dict[str, float]]:
    """Mean of each run, and its paired difference to bce with the standard error."""
    base = np.array([scores[metric] for scores in found["bce"]])
    table = {}
    for name, scores in found.items():
        values = np.array([score[metric] for score in scores])
        apart = values - base
        table[name] = {
            "mean": float(values.mean()),
            "difference": float(apart.mean()),
            "se": float(apart.std(ddof=1) / len(apart) ** 0.5),
        }
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--folds", type=int, default=0, help="score on folds of the training rows instead")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    labels, x, y = read(args.data / "train.csv")
    _, x_test, y_test = read(args.data / "test.csv")
    task, found = make_task("multilabel", labels), defaultdict[str, list[dict[str, float]]](list)
    for seed in range(args.seeds):
        rows, others = (x, y), (x_test, y_test)
        if args.folds:
            order = np.random.default_rng(seed // args.folds).permutation(len(x))
            held = order[seed % args.folds :: args.folds]
            kept = np.setdiff1d(order, held)
            rows, others = (x[kept], y[kept]), (x[held], y[held])
        mean, spread = rows[0].mean(axis=0), rows[0].std(axis=0)
        train = Numbers((rows[0] - mean) / spread, rows[1])
        test = Numbers((others[0] - mean) / spread, others[1])
        for name, recipe in RUNS.items():
            engine, seconds = trained(train, task, recipe, seed, args.epochs)
            for decoded, scores in both_decoded(engine, test, name, seconds).items():
                found[decoded].append(scores)
    result: dict[str, Any] = {"machine": platform.processor() or platform.machine(), "seeds": args.seeds,
                              "epochs": args.epochs, "folds": args.folds, "metrics": {}}  # fmt: skip
    for metric in ("subset_accuracy", "f1_micro", "hamming_loss", "seconds"):
        result["metrics"][metric] = compare(found, metric)
        print(f"\n{metric:24}     mean  difference to bce ± SE")
        for name, row in result["metrics"][metric].items():
            print(f"{name:24} {row['mean']:8.4f} {row['difference']:+9.4f} ± {row['se']:.4f}")
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()

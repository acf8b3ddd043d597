"""Scores of a recipe over several seeds, after the first epoch and at the end, beside the simplest rival.

    python benchmarks/recipe_scores.py recipes/banking77.toml --seeds 3

The rival is logistic regression on the features of the same frozen backbone. The test part is scored
after every epoch for this table and chooses nothing: the recipe's settings are fixed before.
Writes ``benchmarks/results/NAME.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("HF_HUB_OFFLINE", "1")


def baseline(run: Any) -> dict[str, float]:
    """Frozen features with scikit-learn's logistic regression (C = 1, one for each label where several)."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    from etude.core.predict import predict
    from etude.evaluation.metrics import score

    train, test = run.data.train, run.data.test.open().examples
    x, z = (predict(run.engine.model, p, run.accelerator, features=True).numpy() for p in (train, test))
    y = train.targets.numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if run.data.task.kind == "multilabel":
            model = OneVsRestClassifier(LogisticRegression(max_iter=1000)).fit(x, y)
            probabilities = model.predict_proba(z)
        else:
            fitted = LogisticRegression(max_iter=1000).fit(x, y.argmax(1))
            probabilities = np.zeros((len(z), y.shape[1]))
            probabilities[:, fitted.classes_] = fitted.predict_proba(z)
    return score(run.data.task, probabilities, test.targets.numpy())


def one_run(recipe: str, seed: int, overrides: list[str], *, with_baseline: bool) -> dict[str, Any]:
    from etude.config.load import load_config
    from etude.runs.build import build

    run = build(load_config(recipe, [f"seed={seed}", *overrides]))
    run.data.test.unlock()  # this is where a recipe's expected scores come from: nothing is chosen by them
    found: dict[str, Any] = {"seed": seed}
    if with_baseline:
        found["baseline"] = baseline(run)
    epochs: list[dict[str, Any]] = []
    run.engine.validation = run.data.test.open().examples
    run.engine.attach_folder(
        log=lambda record: epochs.append(record["validation"]) if "validation" in record else None,
        checkpoints=None,
    )
    start = time.perf_counter()
    run.engine.fit()
    found["seconds"] = time.perf_counter() - start
    found["epochs"] = epochs
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    parser.add_argument("--name", help="of the JSON file")
    given = parser.parse_args()
    runs = []
    for seed in range(given.seeds):
        runs.append(one_run(given.recipe, seed, given.overrides, with_baseline=seed == 0))
        shown = [round(epoch["f1_macro"], 4) for epoch in runs[-1]["epochs"]]
        print(f"seed {seed}: {runs[-1]['seconds']:.0f} s, f1_macro by epoch {shown}", flush=True)
    rival = runs[0]["baseline"]
    for metric in ("accuracy", "f1_macro", "f1_micro"):
        first = [run["epochs"][0][metric] for run in runs]
        last = [run["epochs"][-1][metric] for run in runs]
        error = statistics.stdev(last) / len(last) ** 0.5 if len(last) > 1 else float("nan")
        print(f"{metric:<10} frozen features + LR {rival[metric]:.4f}   first epoch "
              f"{statistics.mean(first):.4f}   last {statistics.mean(last):.4f} ± {error:.4f}")  # fmt: skip
    from etude.runs.folder import environment

    path = Path(__file__).parent / "results" / f"{given.name or Path(given.recipe).stem}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"runs": runs, "environment": environment(0)}, indent=2) + "\n")


if __name__ == "__main__":
    main()

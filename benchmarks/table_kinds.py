"""Networks over tables beside boosted trees and logistic regression, on the rows of the recipes.

    python benchmarks/table_kinds.py

For each recipe the same data settings are given to ``kind = "linear"`` and ``kind = "trees"`` with their
defaults, over the folds or seeds that the recipe's own score is over, and scored on the same rows: the
validation fold where the recipe has folds, else the test part. Writes
``benchmarks/results/table_kinds.json``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from statistics import mean, stdev

ROOT = Path(__file__).parents[1]
RECIPES = {
    "telco_churn": "roc_auc",
    "german_credit": "roc_auc",
    "titanic": "accuracy",
    "music_emotions": "f1_micro",
    "birds": "f1_micro",
}
QUIET = {"report": False, "baselines": False, "resamples": 0}


def scores(name: str, metric: str, kind: str, folder: Path) -> list[float]:
    from etude.config.load import load_config, parse_config
    from etude.runs.train import train

    recipe = load_config(ROOT / "recipes" / "tables" / f"{name}.toml")
    folds = recipe.data.folds
    found = []
    for n in range(folds or 3):
        table = {
            "task": recipe.task,
            "seed": 0 if folds else n,
            "data": recipe.data.model_dump(exclude_none=True) | ({"fold": n} if folds else {}),
            "columns": recipe.columns.model_dump(exclude_none=True),
            "decision": recipe.decision.model_dump(mode="json", exclude_none=True),
            "backbone": {"kind": kind},
            "run": {"dir": str(folder / f"{name}-{kind}-{n}"), **QUIET},
        }
        part = "validation" if folds else "test"
        found.append(train(parse_config(table)).scores[part][metric])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=RECIPES, default=list(RECIPES))
    given = parser.parse_args()
    from etude.runs.folder import environment

    results: dict[str, dict[str, list[float]]] = {}
    for name in given.only:
        for kind in ("linear", "trees"):
            with tempfile.TemporaryDirectory() as folder:
                runs = scores(name, RECIPES[name], kind, Path(folder))
            results.setdefault(name, {})[kind] = runs
            error = stdev(runs) / len(runs) ** 0.5
            print(f"{name:<16} {kind:<7} {RECIPES[name]:<9} {mean(runs):.4f} ± {error:.4f}", flush=True)
    content = {"scores": results, "environment": environment(0)}
    (ROOT / "benchmarks" / "results" / "table_kinds.json").write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()

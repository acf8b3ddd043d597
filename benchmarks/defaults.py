"""The measurements behind the default recipe: how the head starts, at what rate, and which pooling.

    python benchmarks/defaults.py

Each variant trains on 85 % of the training rows of three development sets, one for each task, and is
scored on the other 15 %; no test part is read. Writes ``benchmarks/results/defaults.json`` and prints
the tables of ``docs/defaults.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

NO_PROBE = "techniques.linear_probe.enabled=false"
NO_HEAD_LR = "techniques.head_lr.enabled=false"
HEAD_100 = "techniques.head_lr.factor=100"
STARTS = {
    "native pooler and head, one rate": ["backbone.pooling=native", NO_PROBE, NO_HEAD_LR],
    "mean pooling, one rate": [NO_PROBE, NO_HEAD_LR],
    "mean pooling, head at 100 times the rate": [NO_PROBE, HEAD_100],
    "mean pooling, probe, one rate": [NO_HEAD_LR],
    "mean pooling, probe, head at 10 times the rate (default)": [],
}
POOLINGS = {
    "native": ["backbone.pooling=native", HEAD_100],
    "cls": ["backbone.pooling=cls"],
    "max": ["backbone.pooling=max"],
}
SETS = {
    "trec_questions": ("accuracy", ["train.epochs=2", "data.limit=3000"]),
    "sst2": ("accuracy", ["train.epochs=2", "data.limit=2500", "data.test=data/sst2/validation.csv"]),
    "nlupp_banking": ("f1_macro", ["train.epochs=4"]),
}


def scores(recipe: str, metric: str, overrides: list[str], seed: int) -> list[float]:
    """The validation score after each epoch."""
    from etude.config.load import load_config
    from etude.runs.build import build

    run = build(load_config(f"recipes/{recipe}.toml", [f"seed={seed}", "data.validation=0.15", *overrides]))
    found: list[float] = []
    run.engine.attach_folder(
        log=lambda record: found.append(record["validation"][metric]) if "validation" in record else None,
        checkpoints=None,
    )
    run.engine.fit()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--sets", nargs="*", choices=SETS, default=list(SETS))
    parser.add_argument("--poolings", action="store_true", help="only the poolings, mean among them")
    given = parser.parse_args()
    from etude.runs.folder import environment

    results: dict[str, Any] = {}
    stem = "poolings" if given.poolings else "defaults"
    variants = {"mean": [], **POOLINGS} if given.poolings else {**STARTS, **POOLINGS}
    for name, variant in variants.items():
        cells = []
        for data in given.sets:
            metric, settings = SETS[data]
            start = time.perf_counter()
            runs = [scores(data, metric, [*settings, *variant], seed) for seed in range(given.seeds)]
            first = sum(run[0] for run in runs) / len(runs)
            last = sum(run[-1] for run in runs) / len(runs)
            results.setdefault(name, {})[data] = {"runs": runs, "seconds": time.perf_counter() - start}
            cells.append(f"{100 * first:.1f} → {100 * last:.1f}")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
        path = Path(__file__).parent / "results" / f"{stem}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"results": results, "environment": environment(0)}, indent=2) + "\n")


if __name__ == "__main__":
    main()

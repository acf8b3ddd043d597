"""How long the exact search of thresholds takes: 200,000 rows of 28 labels, every cut of every label.

Run it with ``python benchmarks/thresholds.py``; it prints seconds of processor time (one thread) and writes
``benchmarks/results/thresholds.json``.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from etude.core.rng import numpy_generator
from etude.decision.counts import f_beta
from etude.decision.thresholds import global_threshold, label_thresholds, shrink
from etude.runs.folder import environment


def made_up(rows: int, labels: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of a model that is often right, for labels from rare to frequent."""
    draw = numpy_generator(0, "thresholds benchmark")
    shares = np.geomspace(0.0005, 0.3, labels)
    truth = draw.random((rows, labels)) < shares
    logits = np.log(shares / (1 - shares)) + 2.5 * truth + draw.normal(size=(rows, labels))
    return (1 / (1 + np.exp(-logits))).astype(np.float32), truth


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--labels", type=int, default=28)
    parser.add_argument("--output", default="benchmarks/results/thresholds.json")
    args = parser.parse_args()
    probabilities, truth = made_up(args.rows, args.labels)
    seconds = {}
    for average in ("micro", "macro"):
        start = time.process_time()
        common = global_threshold(probabilities, truth, f_beta, average)
        seconds[f"global, {average}"] = time.process_time() - start
        assert common is not None
    start = time.process_time()
    own = label_thresholds(probabilities, truth, f_beta, common)
    shrink(own, common, truth, 10.0)
    seconds["per label"] = time.process_time() - start
    print(f"{args.rows} rows x {args.labels} labels, every cut")
    for name, took in seconds.items():
        print(f"{name:>14}: {took:6.2f} s")
    whole = seconds["per label"] + seconds["global, macro"]
    print(f"per_label with its global threshold: {whole:.2f} s")
    result = {"rows": args.rows, "labels": args.labels, "seconds": seconds, "environment": environment(0)}
    Path(args.output).write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

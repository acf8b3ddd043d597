"""What ``etude study`` costs beside the trainings themselves, and whether memory grows from run to run.

A hundred runs of a tiny text model: a base and four variants on twenty seeds. A run's cost beside training is
the time from the end of the run before it to its own end, less that of training and of scoring.

    python benchmarks/study_overhead.py [--seeds 20]
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

import numpy as np
import torch

import etude
from tune_overhead import Watch, write_project

RESULTS = Path(__file__).parent / "results" / "study_overhead.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    watch = Watch("seed ")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_project(folder)
        os.chdir(folder)
        etude.study(
            {
                "data": {"train": "train.csv", "validation": 0.25},
                "backbone": {"path": "tiny", "pooling": "mean", "max_length": 16},
                "train": {"epochs": 1, "batch_size": 32, "precision": "fp32"},
                "study": {
                    "seeds": options.seeds,
                    "techniques": ["ema", "label_smoothing", "layerwise_lr", "sam"],
                    "dir": "study",
                },
            },
            reporter=watch,
        )
        files = sorted(Path("study/runs").glob("*.json"), key=lambda file: file.stat().st_mtime_ns)
        records = [json.loads(file.read_text(encoding="utf-8")) for file in files]
        ends = np.array([file.stat().st_mtime_ns / 1e9 for file in files])
    used = np.array(
        [sum(seconds for what, seconds in r["seconds"].items() if what != "all") for r in records]
    )
    beside = np.diff(ends) - used[1:]
    tenth = max(len(watch.mib) // 10, 1)
    result = {
        "runs": len(records),
        "failed": sum(r["status"] != "done" for r in records),
        "trained_and_scored_s": round(float(np.median(used)), 3),
        "beside_s": {
            "median": round(float(np.median(beside)), 3),
            "p95": round(float(np.quantile(beside, 0.95)), 3),
            "last_tenth": round(float(np.median(beside[-tenth:])), 3),
        },
        "memory_mib": {
            "after_tenth": round(float(np.median(watch.mib[tenth : 2 * tenth])), 1),
            "at_end": round(float(np.median(watch.mib[-tenth:])), 1),
        },
        "load": os.getloadavg()[0],
    }
    print(json.dumps(result, indent=2))
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

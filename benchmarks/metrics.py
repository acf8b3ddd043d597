"""What metrics cost: memory over scores streamed from disk, and seconds of bootstrap intervals.

Run it with ``python benchmarks/metrics.py``. It writes a million rows of 100 scores into a temporary file,
computes all default metrics of it chunk by chunk in a process of its own, whose resident memory is watched,
and takes the time of 1000 bootstrap resamples of two usual test parts. It prints a table and writes
``benchmarks/results/metrics.json``. TMPDIR needs about 1.5 GB.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil  # type: ignore[import-untyped]

from etude.core.task import Task, make_task
from etude.evaluation.bootstrap import bootstrap
from etude.evaluation.metrics import Metrics, score
from etude.evaluation.names import quick_metrics
from etude.runs.folder import environment

CHUNK = 20_000
"""Rows of the file that are in memory at one time."""
PARTS = {"goemotions": ("multilabel", 5427, 28), "clinc150": ("multiclass", 5500, 151)}


def make_rows(kind: str, rows: int, classes: int, seed: int) -> tuple[Any, Any]:
    """Random probabilities (N, C) float32 and targets (N, C) uint8, the probabilities of some use."""
    generator = np.random.default_rng(seed)
    logits = generator.standard_normal((rows, classes), dtype=np.float32) * 2
    if kind == "multilabel":
        targets = (generator.random((rows, classes), dtype=np.float32) < 0.04).astype(np.uint8)
        return 1 / (1 + np.exp(3 - logits - 3 * targets)), targets
    targets = np.zeros((rows, classes), dtype=np.uint8)
    targets[np.arange(rows), generator.integers(classes, size=rows)] = 1
    odds = np.exp(logits + 3 * targets)
    return odds / odds.sum(axis=1, keepdims=True), targets


def write_file(path: Path, kind: str, rows: int, classes: int) -> None:
    """Write chunks of scores, each followed by its targets."""
    with path.open("wb") as file:
        for start in range(0, rows, CHUNK):
            for matrix in make_rows(kind, min(CHUNK, rows - start), classes, start):
                matrix.tofile(file)


def read_file(path: Path, rows: int, classes: int) -> Iterator[tuple[Any, Any]]:
    """Read what :func:`write_file` wrote, a chunk at a time."""
    with path.open("rb") as file:
        for start in range(0, rows, CHUNK):
            cells = min(CHUNK, rows - start) * classes
            probabilities = np.fromfile(file, dtype=np.float32, count=cells).reshape(-1, classes)
            yield probabilities, np.fromfile(file, dtype=np.uint8, count=cells).reshape(-1, classes)


@contextmanager
def watching_memory(found: dict[str, float]) -> Iterator[None]:
    """Note by how many MiB the resident memory of this process rises above what it is now, at most."""
    process, done = psutil.Process(), threading.Event()
    before = peak = process.memory_info().rss

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.002):
            peak = max(peak, process.memory_info().rss)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
        found |= {"before_mib": before / 2**20, "above_mib": (peak - before) / 2**20}


def stream(path: Path, kind: Any, rows: int, classes: int) -> dict[str, Any]:
    """Compute all default metrics over a file; runs in a process of its own."""
    metrics = Metrics(make_labels(kind, classes))
    memory: dict[str, float] = {}
    start = time.perf_counter()
    with watching_memory(memory):
        for probabilities, targets in read_file(path, rows, classes):
            metrics.update(probabilities, targets)
        added = time.perf_counter()
        scores = metrics.compute()
    end = time.perf_counter()
    return {"rows": rows, "classes": classes, **memory, "update_seconds": added - start,
            "compute_seconds": end - added, "metrics": scores}  # fmt: skip


def make_labels(kind: Any, classes: int) -> Task:
    return make_task(kind, [f"label {c}" for c in range(classes)])


def time_bootstrap(kind: str, rows: int, classes: int) -> dict[str, Any]:
    """Seconds of one scoring, and of 1000 resamples of it; the processor's own where others use it too."""
    task = make_labels(kind, classes)
    probabilities, targets = make_rows(kind, rows, classes, seed=0)
    quick = quick_metrics(task.kind, classes)
    seconds, processor = {}, {}
    for name, names in {"score": None, "quick score": quick, "bootstrap": None}.items():
        start, used = time.perf_counter(), time.process_time()
        if name == "bootstrap":
            intervals = bootstrap(task, probabilities, targets)
        else:
            score(task, probabilities, targets, names=names)
        seconds[name], processor[name] = time.perf_counter() - start, time.process_time() - used
    size = {"rows": rows, "classes": classes, "metrics": len(intervals)}
    return {**size, "seconds": seconds, "processor_seconds": processor}


def main() -> None:
    """Measure, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/metrics.json"))
    options = parser.parse_args()
    results: dict[str, Any] = {"environment": environment(0), "streamed": {}, "bootstrap": {}}
    for name, part in PARTS.items():
        results["bootstrap"][name] = found = time_bootstrap(*part)
        size = f"{found['rows']:,} x {found['classes']}, {found['metrics']} metrics"
        for what, seconds in found["seconds"].items():
            used = found["processor_seconds"][what]
            print(f"{name} ({size}): {what} {seconds:.3f} s, {used:.3f} s of processor", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("multilabel", "multiclass"):
            path = Path(folder) / kind
            write_file(path, kind, options.rows, options.classes)
            # A fresh process: what was imported or allocated here must not hide what it needs.
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                found = pool.apply(stream, (path, kind, options.rows, options.classes))
            path.unlink()
            results["streamed"][kind] = found
            print(f"{kind}: {options.rows:,} x {options.classes} streamed, {len(found['metrics'])} metrics: "
                  f"{found['above_mib']:.0f} MiB above the import's {found['before_mib']:.0f} MiB, "
                  f"{found['update_seconds']:.1f} s to add, {found['compute_seconds']:.1f} s to compute",
                  flush=True)  # fmt: skip
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

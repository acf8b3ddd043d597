"""What the engine costs: a tiny MLP (64 -> 128 -> 4, batch 256) against a bare PyTorch loop.

Run it with ``python benchmarks/loop_overhead.py``; it alternates the two in one process, and prints
medians and writes ``benchmarks/results/loop_overhead.json``.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from etude.core.engine import Engine, Settings
from etude.core.plan import build_plan
from etude.core.task import Multiclass
from etude.core.technique import Context
from etude.runs.folder import environment
from etude.techniques import technique_class
from etude.testing.tiny import TinyMLP, TinyNumbers, cpu_accelerator

BATCH, D_IN, D_HIDDEN, CLASSES, ROWS = 256, 64, 128, 4, 256 * 100


def bare(examples: TinyNumbers, steps: int) -> float:
    """Seconds of a step in a loop that a person would write."""
    model = TinyMLP(CLASSES, D_IN, D_HIDDEN)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    x, y = examples.inputs(np.arange(len(examples)))["numbers"], examples.targets.argmax(1)
    model.train()
    start, done = time.perf_counter(), 0
    while done < steps:
        for rows in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad(set_to_none=True)
            loss = cross_entropy(model.head(model.hidden(x[rows])), y[rows])
            loss.backward()
            optimizer.step()
            done += 1
    return (time.perf_counter() - start) / done


def engine(examples: TinyNumbers, task: Multiclass, steps: int) -> float:
    """Seconds of a step in the full engine without a technique."""
    backbone = TinyMLP(CLASSES, D_IN, D_HIDDEN)
    per_epoch = -(-len(examples) // BATCH)
    context = Context(task, backbone, examples.targets.sum(0).numpy(), len(examples), BATCH, per_epoch,
                      steps, 0, lambda _: backbone)  # fmt: skip
    names = {"adamw": {"lr": 1e-3}, "cross_entropy": {}, "constant": {}}
    techniques = [technique_class(n)(technique_class(n).Config(name=n, **s)) for n, s in names.items()]
    settings = Settings(-(-steps // per_epoch), steps, BATCH, BATCH, 0, 0, 10)
    made = Engine(build_plan(techniques, context), backbone, examples, cpu_accelerator(), settings)
    start = time.perf_counter()
    made.fit()
    return (time.perf_counter() - start) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results/loop_overhead.json")
    given = parser.parse_args()
    task = Multiclass([str(c) for c in range(CLASSES)])
    examples = TinyNumbers(task, ROWS, D_IN)
    bare(examples, 200), engine(examples, task, 200)
    ours, theirs = [], []
    for _ in range(given.repeats):
        theirs.append(bare(examples, given.steps))
        ours.append(engine(examples, task, given.steps))
    result = {
        "bare_ms": 1e3 * median(theirs),
        "engine_ms": 1e3 * median(ours),
        "ratio": median(ours) / median(theirs),
        "environment": environment(0),
    }
    print(f"bare loop {result['bare_ms']:.3f} ms   engine {result['engine_ms']:.3f} ms   "
          f"ratio {result['ratio']:.2f}")  # fmt: skip
    given.output.parent.mkdir(exist_ok=True)
    given.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()

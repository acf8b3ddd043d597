"""Resident memory while a file of a million texts is predicted: it must not grow with the file.

Run it with ``python benchmarks/predict_memory.py``. It trains a tiny model for one epoch, writes a csv
and a jsonl file into a temporary folder, predicts each in a process of its own, prints the memory on the
way, and writes ``benchmarks/results/predict_memory.json``.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil  # type: ignore[import-untyped]
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

import etude
from etude.core.observe import Bar, Reporter
from etude.data.writer import RowWriter
from etude.runs.folder import environment

WORDS = [f"word{number}" for number in range(2000)]
LABELS = ("order", "refund", "account")
EVERY = 100_000
WRITTEN_AT_ONCE = 50_000


class MemoryReporter(Reporter):
    """Notes the resident memory of this process every 100,000 predicted rows, in MiB."""

    def __init__(self) -> None:
        self.resident: dict[int, float] = {}

    @contextmanager
    def bar(self, title: str, total: int | None, unit: str) -> Iterator[Bar]:
        """Watch the bar that counts the file's rows; the others are opened and closed for each chunk."""
        yield _Watch(self.resident) if title == "predicting" and total is None else _Watch({})


class _Watch:
    def __init__(self, resident: dict[int, float]) -> None:
        self._resident, self._process, self._done = resident, psutil.Process(), 0

    def advance(self, amount: int = 1, note: str = "") -> None:
        before, self._done = self._done, self._done + amount
        if before // EVERY != self._done // EVERY:
            self._resident[self._done // EVERY * EVERY] = self._process.memory_info().rss / 2**20


def save_tiny_model(folder: Path) -> Path:
    """Train a BERT of one tiny layer for an epoch, and return its run's folder."""
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    vocabulary = {word: number for number, word in enumerate([*special.values(), *WORDS])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token=special["unk_token"]))
    tokenizer.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder / "tiny")
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    BertModel(BertConfig(vocab_size=len(vocabulary), **sizes)).save_pretrained(folder / "tiny")
    write_texts(folder / "train.csv", 60)
    config: Mapping[str, Any] = {
        "data": {"train": str(folder / "train.csv"), "validation": False},
        "backbone": {"path": str(folder / "tiny"), "pooling": "mean", "max_length": 32},
        "train": {"epochs": 1},
        "run": {"dir": str(folder / "run")},
    }
    return etude.train(config).folder


def write_texts(path: Path, rows: int) -> None:
    """Write rows of 4 to 16 random words, with an id and a label."""
    generator = np.random.default_rng(0)
    with RowWriter(str(path)) as writer:
        for start in range(0, rows, WRITTEN_AT_ONCE):
            numbers = range(start, min(start + WRITTEN_AT_ONCE, rows))
            lengths = generator.integers(4, 17, len(numbers))
            texts = [" ".join(WORDS[word] for word in generator.integers(0, 2000, n)) for n in lengths]
            labels = [LABELS[number % len(LABELS)] for number in numbers]
            writer.write({"id": list(numbers), "text": texts, "label": labels})


def measure(run: Path, source: Path) -> dict[str, Any]:
    """Predict a file, and return what it cost."""
    output = source.with_name(f"predicted{source.suffix}")
    reporter = MemoryReporter()
    model = etude.load(run)
    start = time.perf_counter()
    rows = model.predict_file(str(source), str(output), reporter=reporter)
    seconds = time.perf_counter() - start
    sizes = {"input_mib": source.stat().st_size / 2**20, "output_mib": output.stat().st_size / 2**20}
    output.unlink()
    first, *_, last = reporter.resident.values()
    return {
        "rows": rows,
        "seconds": seconds,
        **sizes,
        "resident_mib": reporter.resident,
        "growth_mib": last - first,
    }


def main() -> None:
    """Measure both formats, print the memory and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/predict_memory.json"))
    options = parser.parse_args()
    results: dict[str, Any] = {"environment": environment(0)}
    with tempfile.TemporaryDirectory() as name:
        run = save_tiny_model(Path(name))
        # A process of its own for each: memory that one format leaves behind must not hide the other's.
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            for suffix in ("csv", "jsonl"):
                source = Path(name) / f"texts.{suffix}"
                write_texts(source, options.rows)
                results[suffix] = found = pool.apply(measure, (run, source))
                source.unlink()
                rate = found["rows"] / found["seconds"]
                print(f"{suffix}: {found['rows']:,} rows, {found['input_mib']:.0f} MiB in, "
                      f"{found['output_mib']:.0f} MiB out, {rate:,.0f} rows/s", flush=True)  # fmt: skip
                for rows, resident in found["resident_mib"].items():
                    print(f"  after {rows:>9,} rows  {resident:7.1f} MiB")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

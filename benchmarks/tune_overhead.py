"""What ``etude tune`` costs beside the trainings themselves, and whether memory grows from trial to trial.

A hundred trials of a tiny text model. A trial's cost beside training is its whole time less that of ``fit``:
building the run, asking the sampler, writing to the database, letting go of the model.

    python benchmarks/tune_overhead.py [--trials 100] [--sampler tpe]
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

import etude
from etude.core.observe import Reporter

SPECIAL = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
RESULTS = Path(__file__).parent / "results" / "tune_overhead.json"


class Watch(Reporter):
    """Notes the resident memory when a line tells of a finished trial or run."""

    def __init__(self, beginning: str) -> None:
        self.beginning = beginning
        self.mib: list[float] = []
        self.at: list[float] = []

    def line(self, text: str) -> None:
        if text.startswith(self.beginning):
            self.mib.append(psutil.Process().memory_info().rss / 2**20)
            self.at.append(time.perf_counter())


def write_project(folder: Path) -> None:
    words = [f"word{i}" for i in range(200)]
    rng = np.random.default_rng(0)
    rows = [f"{' '.join(rng.choice(words, 8))} mark{i % 2},{'ab'[i % 2]}" for i in range(400)]
    (folder / "train.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    vocabulary = {word: i for i, word in enumerate([*SPECIAL.values(), *words, "mark0", "mark1"])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token=SPECIAL["unk_token"]))
    tokenizer.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL).save_pretrained(folder / "tiny")
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=len(vocabulary), **sizes)).save_pretrained(folder / "tiny")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--sampler", default="tpe")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_project(folder)
        os.chdir(folder)
        watch = Watch("trial ")
        found = etude.tune(
            {
                "data": {"train": "train.csv", "validation": 0.25},
                "backbone": {"path": "tiny", "pooling": "mean", "max_length": 16},
                "train": {"epochs": 1, "batch_size": 32, "precision": "fp32"},
                "run": {"dir": "study"},
                "tune": {"trials": options.trials, "seeds": 0, "sampler": options.sampler, "metric": "loss"},
            },
            reporter=watch,
        )
    trials = found.record["trials"]
    beside = np.array([trial["seconds"] - trial["trained"] for trial in trials])
    between = np.diff(watch.at) - np.array([trial["trained"] for trial in trials[1:]])
    tenth = max(len(watch.mib) // 10, 1)
    result = {
        "trials": len(trials),
        "sampler": options.sampler,
        "trained_s": round(float(np.median([trial["trained"] for trial in trials])), 3),
        "beside_s": {
            "median": round(float(np.median(beside)), 3),
            "p95": round(float(np.quantile(beside, 0.95)), 3),
        },
        "from_trial_to_trial_s": {
            "median": round(float(np.median(between)), 3),
            "last_tenth": round(float(np.median(between[-tenth:])), 3),
        },
        "memory_mib": {
            "after_tenth": round(float(np.median(watch.mib[tenth : 2 * tenth])), 1),
            "at_end": round(float(np.median(watch.mib[-tenth:])), 1),
        },
        "load": os.getloadavg()[0],
    }
    print(json.dumps(result, indent=2))
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()

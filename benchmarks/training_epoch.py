"""An epoch of training: Étude beside a bare PyTorch loop and beside other trainers, in one run.

    python benchmarks/training_epoch.py recipes/tables/adult_mlp.toml
    python benchmarks/training_epoch.py recipes/images/mnist_small.toml

The recipe says what is trained. All contestants but the last two train the same network on the same prepared
tensors, with the same batch size, learning rate and precision (float32):

* ``etude``: the default recipe as the file has it, its validation part and its baselines left out
* ``bare``: a loop that a person would write, tensors in memory, fused AdamW
* ``trainer``: transformers' Trainer
* ``lightning``: Lightning's Trainer with a DataLoader over tensors
* ``skorch``: skorch's NeuralNetClassifier
* ``etude_auto``: as ``etude``, in the precision that it chooses by itself (bf16 on processors with AMX)
* ``pytorch_tabular``: for tables, a network of the same depth and width as a user of pytorch-tabular asks for
  it, on the same rows of the file; it wants an older pandas, so that ``--tabular-python`` names an
  interpreter that has it

They alternate, each in a process of its own, and the table shows medians. The time is that of the training
call alone, divided by its epochs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

RESULTS = Path(__file__).parent / "results"


def build(given: argparse.Namespace) -> Any:
    from etude.config.load import load_config
    from etude.runs.build import build as build_run

    precision = "auto" if given.single == "etude_auto" else "fp32"
    settings = [f"train.epochs={given.epochs}", "data.validation=false", f"train.precision={precision}"]
    return build_run(load_config(given.recipe, [*settings, *given.set]))


class Plain(nn.Module):
    """The network as a module from keyword inputs to logits."""

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, **inputs: Tensor) -> Tensor:
        logits: Tensor = self.backbone(inputs).logits
        return logits


def tensors(run: Any) -> tuple[dict[str, Tensor], Tensor]:
    train = run.data.train
    return train.inputs(np.arange(len(train))), train.targets.argmax(1)


def etude(given: argparse.Namespace) -> float:
    run = build(given)
    start = time.perf_counter()
    run.engine.fit()
    return time.perf_counter() - start


def bare(given: argparse.Namespace) -> float:
    run = build(given)
    inputs, classes = tensors(run)
    model = Plain(run.backbone).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    start = time.perf_counter()
    for epoch in range(given.epochs):
        run.backbone.key_randomness(epoch)
        for rows in torch.randperm(len(classes)).split(run.engine.settings.batch_size):
            optimizer.zero_grad(set_to_none=True)
            loss = cross_entropy(
                model(**{name: value[rows] for name, value in inputs.items()}), classes[rows]
            )
            loss.backward()
            optimizer.step()
    return time.perf_counter() - start


class Rows(torch.utils.data.Dataset[Any]):
    """The same tensors, row by row, as DataLoaders ask for them."""

    def __init__(self, inputs: dict[str, Tensor], classes: Tensor) -> None:
        self.inputs, self.classes = inputs, classes

    def __len__(self) -> int:
        return len(self.classes)

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return {name: value[row] for name, value in self.inputs.items()} | {"labels": self.classes[row]}


def trainer(given: argparse.Namespace) -> float:
    from transformers import Trainer, TrainingArguments

    run = build(given)
    inputs, classes = tensors(run)
    run.backbone.key_randomness(0)

    class Model(Plain):
        def forward(self, labels: Tensor, **inputs: Tensor) -> dict[str, Tensor]:
            logits = super().forward(**inputs)
            return {"loss": cross_entropy(logits, labels), "logits": logits}

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            num_train_epochs=given.epochs,
            per_device_train_batch_size=run.engine.settings.batch_size,
            learning_rate=1e-3,
            save_strategy="no",
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
            remove_unused_columns=False,
        )
        made = Trainer(Model(run.backbone), arguments, train_dataset=Rows(inputs, classes))
        start = time.perf_counter()
        made.train()
        return time.perf_counter() - start


def lightning(given: argparse.Namespace) -> float:
    import lightning as pl

    run = build(given)
    inputs, classes = tensors(run)
    run.backbone.key_randomness(0)

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = Plain(run.backbone)

        def training_step(self, batch: dict[str, Tensor]) -> Tensor:
            return cross_entropy(
                self.model(**{k: v for k, v in batch.items() if k != "labels"}), batch["labels"]
            )

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=1e-3)

    loader = torch.utils.data.DataLoader(
        Rows(inputs, classes), batch_size=run.engine.settings.batch_size, shuffle=True
    )
    made = pl.Trainer(
        max_epochs=given.epochs, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    start = time.perf_counter()
    made.fit(Module(), loader)
    return time.perf_counter() - start


def skorch(given: argparse.Namespace) -> float:
    from skorch import NeuralNetClassifier

    run = build(given)
    inputs, classes = tensors(run)
    run.backbone.key_randomness(0)
    network = NeuralNetClassifier(
        Plain(run.backbone), criterion=nn.CrossEntropyLoss, optimizer=torch.optim.AdamW, lr=1e-3,
        batch_size=run.engine.settings.batch_size, max_epochs=given.epochs, train_split=None,
        iterator_train__shuffle=True, verbose=0,
    )  # fmt: skip
    arrays = {name: value.numpy() for name, value in inputs.items()}
    start = time.perf_counter()
    network.fit(arrays, classes.numpy())
    return time.perf_counter() - start


def pytorch_tabular(given: argparse.Namespace) -> float:
    import pandas as pd
    from pytorch_tabular import TabularModel
    from pytorch_tabular.config import DataConfig, OptimizerConfig, TrainerConfig
    from pytorch_tabular.models import CategoryEmbeddingModelConfig

    from etude.config.load import load_config

    recipe = load_config(given.recipe)
    frame = pd.read_csv(recipe.data.train)
    numbers = [n for n in frame.columns if n != recipe.data.labels and frame[n].dtype.kind in "if"]
    names = [n for n in frame.columns if n not in (recipe.data.labels, *numbers)]
    model = TabularModel(
        data_config=DataConfig(target=[recipe.data.labels], continuous_cols=numbers, categorical_cols=names),
        model_config=CategoryEmbeddingModelConfig(
            task="classification", layers="384-384-384", activation="ReLU", dropout=0.1, learning_rate=1e-3
        ),
        optimizer_config=OptimizerConfig(optimizer="AdamW"),
        trainer_config=TrainerConfig(
            batch_size=recipe.train.batch_size, max_epochs=given.epochs, accelerator="cpu",
            progress_bar="none", early_stopping=None, checkpoints=None, load_best=False,
        ),
        verbose=False,
        suppress_lightning_logger=True,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):  # it leaves files where it stands
        module = model.prepare_dataloader(train=frame, validation=frame[:256], seed=0)
        network = model.prepare_model(module)
        start = time.perf_counter()
        model.train(network, module)
        return time.perf_counter() - start


CONTESTANTS: dict[str, Callable[[argparse.Namespace], float]] = {
    "etude": etude,
    "bare": bare,
    "trainer": trainer,
    "lightning": lightning,
    "skorch": skorch,
    "etude_auto": etude,
    "pytorch_tabular": pytorch_tabular,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--set", nargs="*", default=[], help="settings of the recipe")
    parser.add_argument("--only", nargs="*", choices=CONTESTANTS, help="those that the installation can run")
    parser.add_argument("--tabular-python", help="an interpreter with etude and pytorch-tabular")
    parser.add_argument("--single", choices=CONTESTANTS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.single:
        print(f"RESULT {CONTESTANTS[given.single](given) / given.epochs}")
        return
    from etude.runs.folder import environment

    pythons = dict.fromkeys(CONTESTANTS, sys.executable) | {"pytorch_tabular": given.tabular_python}
    only = given.only or [name for name, python in pythons.items() if python]
    found: dict[str, list[float]] = {name: [] for name in only}
    for _ in range(given.repeats):
        for name in only:
            command = [pythons[name], __file__, *sys.argv[1:], "--single", name]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
            if not lines:
                raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
            found[name].append(float(lines[0][7:]))
    medians = {name: median(seconds) for name, seconds in found.items()}
    print(f"{'contestant':<12} {'s / epoch':>10} {'to etude':>9}")
    for name, seconds in medians.items():
        print(f"{name:<12} {seconds:>10.3f} {seconds / medians['etude']:>9.2f}")
    content = {"recipe": given.recipe, "epochs": given.epochs, "medians": medians, "runs": found}
    path = RESULTS / f"training_epoch_{Path(given.recipe).stem}.json"
    path.write_text(json.dumps(content | {"environment": environment(0)}, indent=2) + "\n")


if __name__ == "__main__":
    main()

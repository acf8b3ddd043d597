"""The engine against transformers' Trainer: the same checkpoint, rows and settings, the same weights."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import Tensor
from torch.utils.data import SequentialSampler
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
)

from etude.backbones.text import TextBackbone, load_text_backbone
from etude.config.run import BackboneConfig
from etude.core.engine import Engine, Settings
from etude.core.plan import build_plan
from etude.core.rng import numpy_generator
from etude.core.task import Task
from etude.core.technique import Context
from etude.techniques import technique_class
from etude.testing.harness import make
from etude.testing.technique_suite import difference
from etude.testing.tiny import N_TOKENS, TinyTokens, cpu_accelerator, tiny_task

EPOCHS, BATCH, ROWS, LR, DECAY = 3, 8, 32, 1e-3, 0.01
STEPS = EPOCHS * ROWS // BATCH


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A random BERT of 16 dimensions without dropout, whose classifier is its own."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=N_TOKENS, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=16, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        classifier_dropout=0.0, num_labels=3, initializer_range=0.3,
    )  # fmt: skip
    folder = tmp_path / "checkpoint"
    BertForSequenceClassification(config).save_pretrained(folder)
    words = Tokenizer(WordLevel({f"w{i}": i for i in range(N_TOKENS)}, "w2"))
    special = {"pad_token": "w0", "mask_token": "w1", "unk_token": "w2"}
    PreTrainedTokenizerFast(tokenizer_object=words, **special).save_pretrained(folder)
    return folder


def precision(task: Task) -> torch.dtype:
    """Torch rounds its multilabel loss elsewhere, and Adam makes much of small gradients: use float64."""
    return torch.float64 if task.kind == "multilabel" else torch.float32


def by_engine(folder: Path, task: Task, examples: TinyTokens) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The weights before training, whose head is drawn anew, and those after it."""
    chosen = BackboneConfig(path=str(folder), pooling="native", head_dropout=0.0, max_length=16)
    backbone = load_text_backbone(chosen, task, seed=0).to(precision(task))
    before = weights_of(backbone)
    recipe: dict[str, dict[str, Any]] = {
        "adamw": {"lr": LR, "weight_decay": DECAY},
        "linear": {},
        task.default_loss: {},
        "no_decay": {"embeddings": False},
    }
    context = Context(
        task, backbone, examples.targets.sum(0).numpy(), ROWS, BATCH, ROWS // BATCH, STEPS, 0, load_nothing
    )
    plan = build_plan([make(technique_class(name), said) for name, said in recipe.items()], context)
    settings = Settings(EPOCHS, STEPS, BATCH, BATCH, evaluate_every=0, save_every=0, log_every=1)
    engine = Engine(plan, backbone, examples, cpu_accelerator(), settings)
    engine.fit()
    assert engine.step == STEPS
    return before, weights_of(backbone)


def load_nothing(path: str) -> Any:
    raise LookupError(path)


def weights_of(backbone: TextBackbone) -> dict[str, Tensor]:
    """The weights by transformers' names."""
    found = {f"bert.{name}": value for name, value in backbone.network.named_parameters()}
    found |= dict(backbone.head.classifier.named_parameters())
    return {name: value.detach().clone() for name, value in found.items()}


class InOrder(Trainer):
    """A Trainer that takes rows as they come."""

    def _get_train_sampler(self, *args: Any) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)


def by_trainer(
    folder: Path, before: dict[str, Tensor], task: Task, examples: TinyTokens, output: Path
) -> dict[str, Tensor]:
    model = BertForSequenceClassification.from_pretrained(folder).to(precision(task))
    missing = model.load_state_dict(before, strict=False)
    assert missing.unexpected_keys == [], "our names are not transformers' names"
    assert {name for name, _ in model.named_parameters()} == set(before)
    model.config.problem_type = task.problem_type
    order = [numpy_generator(0, "shuffle", epoch).permutation(ROWS) for epoch in range(EPOCHS)]

    def collate(rows: list[int]) -> dict[str, Tensor]:
        targets = examples.targets[rows]
        labels = targets.double() if task.kind == "multilabel" else targets.argmax(dim=1)
        return {**examples.inputs(np.array(rows)), "labels": labels}

    given = TrainingArguments(
        output_dir=str(output), num_train_epochs=1, per_device_train_batch_size=BATCH, learning_rate=LR,
        weight_decay=DECAY, lr_scheduler_type="linear", warmup_steps=0, max_grad_norm=0.0, use_cpu=True,
        optim="adamw_torch_fused", remove_unused_columns=False, report_to=[], save_strategy="no",
        logging_strategy="no", disable_tqdm=True, dataloader_pin_memory=False,
    )  # fmt: skip
    rows = np.concatenate(order).tolist()
    trainer = InOrder(model=model, args=given, train_dataset=rows, data_collator=collate)
    assert trainer.train().global_step == STEPS >= 8
    return {name: value.detach() for name, value in model.named_parameters()}


@pytest.mark.parametrize("kind", ["multiclass", "multilabel"])
def test_same_weights_as_the_trainer(kind: Any, checkpoint: Path, tmp_path: Path) -> None:
    task = tiny_task(kind)
    examples = TinyTokens(task, ROWS)
    before, ours = by_engine(checkpoint, task, examples)
    theirs = by_trainer(checkpoint, before, task, examples, tmp_path / "trainer")
    assert difference(ours, theirs) < 1e-6
    assert difference(ours, before) > 5 * LR

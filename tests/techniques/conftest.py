"""A tiny real backbone, a context around it, and a moment, for the tests of single techniques."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from etude.core.backbone import Backbone
from etude.core.rng import Moment
from etude.core.task import make_task
from etude.core.technique import Context


class TinyBackbone(Backbone):
    """Embeds tokens, takes their mean over the mask, and puts one dense layer under the head."""

    capabilities = frozenset({"embed", "tokens"})
    mask_token_id = 3
    pad_token_id = 0
    special_ids = (0, 1, 2, 3)

    def __init__(self, n_classes: int, d: int = 8) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(30, d)
        self.norm = nn.LayerNorm(d)
        self.dense = nn.Linear(d, d)
        self.head = nn.Linear(d, n_classes)

    def embed(self, inputs: Mapping[str, Tensor]) -> Tensor:
        return self.embeddings(inputs["input_ids"])

    def layers_from(self, embedding: Tensor, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        return (embedding,)

    def pool(self, layers: tuple[Tensor, ...], inputs: Mapping[str, Tensor]) -> Tensor:
        mask = inputs["attention_mask"].unsqueeze(-1).to(layers[-1].dtype)
        mean = (layers[-1] * mask).sum(dim=1) / mask.sum(dim=1).clamp_min(1)
        return torch.tanh(self.dense(self.norm(mean)))

    def blocks(self) -> list[tuple[str, nn.Module]]:
        body = nn.ModuleList([self.norm, self.dense])
        return [("embeddings", self.embeddings), ("body", body), ("head", self.head)]

    def save(self, folder: Path, metadata: Mapping[str, Any]) -> None:
        raise NotImplementedError("this backbone lives in tests only")


def refuse_to_load(path: str) -> Backbone:
    raise FileNotFoundError(path)


@pytest.fixture
def tiny_context() -> Callable[..., Context]:
    """Makes a context of a kind of task: three classes (binary: two), 40 rows, 10 steps an epoch."""

    def make(kind: str = "multiclass", **changes: Any) -> Context:
        torch.manual_seed(0)
        task = make_task(kind, ["a", "b"] if kind == "binary" else ["a", "b", "c"])
        values: dict[str, Any] = {
            "task": task,
            "backbone": TinyBackbone(task.n_classes),
            "class_counts": np.array([20, 10, 10][: task.n_classes]),
            "n_rows": 40,
            "batch_size": 4,
            "steps_per_epoch": 10,
            "total_steps": 30,
            "seed": 0,
            "load_model": refuse_to_load,
        }
        return Context(**{**values, **changes})

    return make


@pytest.fixture
def moment() -> Moment:
    """The seventh step of a run of 30."""
    return Moment(seed=0, step=7, epoch=0, steps_per_epoch=10, total_steps=30)

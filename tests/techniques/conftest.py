"""A context for techniques, over the tiny backbones."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from etude.core.backbone import Backbone
from etude.core.task import Kind
from etude.core.technique import Context
from etude.testing.tiny import tiny_backbone, tiny_task

MakeContext = Callable[..., Context]


def _no_teacher(folder: str) -> Backbone:
    raise LookupError(folder)


@pytest.fixture
def make_context() -> MakeContext:
    """Return a function from a kind of task, and any fields to exchange, to a context."""

    def make(kind: Kind = "multiclass", **changes: Any) -> Context:
        task = tiny_task(kind)
        fields: dict[str, Any] = {
            "task": task,
            "backbone": tiny_backbone("text", task),
            "class_counts": np.array([10, 40] if kind == "binary" else [10, 40, 50]),
            "n_rows": 50 if kind == "binary" else 100,
            "batch_size": 10,
            "steps_per_epoch": 10,
            "total_steps": 40,
            "seed": 0,
            "load_model": _no_teacher,
        }
        return Context(**{**fields, **changes})

    return make

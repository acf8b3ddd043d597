"""Contexts for techniques, over the tiny backbones that ship with the package."""

from typing import Any

import numpy as np

from etude.core.backbone import Backbone
from etude.core.task import Kind
from etude.core.technique import Context
from etude.testing.tiny import tiny_backbone, tiny_task


def _no_teacher(folder: str) -> Backbone:
    raise LookupError(folder)


def make_context(kind: Kind = "multiclass", **changes: Any) -> Context:
    """A context of a kind of task: two or three classes, 10 steps in each of 4 epochs."""
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

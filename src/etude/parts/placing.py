"""Putting a part on a backbone: of the right width and type, with weights of the run's seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn

from etude.core.backbone import Backbone
from etude.errors import ConflictError
from etude.parts.base import LabelLayer, Part, StackedHead

P = TypeVar("P", bound=Part)

POOLER_RANK, HEAD_RANK, LABELS_RANK = -20, -10, 10
"""Ranks of the model phase: techniques that change a head find the run's own, still without labels on top."""

ONE_POOLER = "a backbone has one pooling; keep one of them"
"""Why techniques that put a pooler exclude each other."""


def feature_width(backbone: Backbone, technique: str) -> int:
    """Return D, the width of the features (B, D) that the head takes.

    Raises:
        ConflictError: the head has no linear layer to tell it.

    >>> from etude.testing.tiny import TinyTransformer
    >>> feature_width(TinyTransformer(3, d_model=8), "cnn_head")
    8
    """
    for module in backbone.head.modules():
        if isinstance(module, nn.Linear):
            return module.in_features
    raise ConflictError(
        f"{technique} learns the width of the features from the head's first linear layer and "
        f"{type(backbone.head).__name__} has none; remove {technique} or choose another head"
    )


def token_width(backbone: Backbone, technique: str) -> int:
    """Return D, the width of the features of tokens (B, L, D) that a pooler takes.

    It is that of the head without the numbers that join the pooled features; raises as
    :func:`feature_width`.
    """
    return feature_width(backbone, technique) - backbone.n_numbers


def n_layers(backbone: Backbone) -> int:
    """Return the number of a backbone's layers: its blocks without the embeddings and the head.

    >>> from etude.testing.tiny import TinyTransformer
    >>> n_layers(TinyTransformer(3, n_blocks=2))
    2
    """
    return len(backbone.blocks()) - 2


def fresh(kind: type[P], seed: int, **settings: Any) -> P:
    """Return a part with first weights that depend on the seed and on nothing else."""
    # What torch draws as it makes layers is thrown away, and must not shift what others draw.
    with torch.random.fork_rng(devices=[]):
        part = kind(**settings)
    part.draw(seed)
    return part


def pooling_by(pooler: Part) -> Callable[[Backbone], Backbone]:
    """Return the edit that lets a pooler pool."""

    def edit(backbone: Backbone) -> Backbone:
        backbone.put_pooler(like(backbone, pooler))
        return backbone

    return edit


def headed_by(head: Part) -> Callable[[Backbone], Backbone]:
    """Return the edit that exchanges the head."""

    def edit(backbone: Backbone) -> Backbone:
        backbone.put_head(like(backbone, head))
        return backbone

    return edit


def topped_by(labels: LabelLayer) -> Callable[[Backbone], Backbone]:
    """Return the edit that puts a label layer on top of the head."""

    def edit(backbone: Backbone) -> Backbone:
        like(backbone, labels)
        backbone.put_head(StackedHead(backbone.head, labels))
        return backbone

    return edit


def like(backbone: Backbone, part: Part) -> Part:
    """Move a part to the device and the floating-point type of the backbone's head."""
    found = next(backbone.head.parameters())
    return part.to(device=found.device, dtype=found.dtype)

"""Optimizers: from parameter groups to torch's optimizer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def can_fuse(groups: Iterable[Mapping[str, Any]]) -> bool:
    """Whether torch's fused kernel can update every parameter: floating point, on a CPU or CUDA device.

    >>> import torch
    >>> can_fuse([{"params": [torch.nn.Parameter(torch.zeros(2))]}])
    True
    >>> can_fuse([{"params": [torch.nn.Parameter(torch.zeros(2, device="meta"))]}])
    False
    """
    return all(
        value.is_floating_point() and value.device.type in ("cpu", "cuda")
        for group in groups
        for value in group["params"]
    )

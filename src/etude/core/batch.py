"""A batch of examples that nothing ever mutates.

Because a batch is frozen and every operation returns a new one, an optimizer step can be replayed:
a two-pass technique sees exactly the same rows, targets and weights both times.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """B examples.

    Attributes:
        inputs: tensors by name, each with B rows.
        targets: (B, C) float; hard, soft and multilabel targets look the same.
        weights: (B,) float, 0 or more.
        index: (B,) int64, stable row ids in the training part.
    """

    inputs: Mapping[str, Tensor]
    targets: Tensor
    weights: Tensor
    index: Tensor

    def __len__(self) -> int:
        return self.targets.shape[0]

    def replace(self, **changes: Any) -> Batch:
        """Return a batch with some fields exchanged."""
        return replace(self, **changes)

    def with_inputs(self, **changes: Tensor) -> Batch:
        """Return a batch with some inputs added or exchanged."""
        return replace(self, inputs={**self.inputs, **changes})

    def select(self, rows: Tensor | slice) -> Batch:
        """Return the batch of the given rows, in their order."""
        return Batch(
            {name: value[rows] for name, value in self.inputs.items()},
            self.targets[rows],
            self.weights[rows],
            self.index[rows],
        )

    def split(self, size: int) -> Iterator[Batch]:
        """Yield consecutive batches of at most ``size`` rows.

        >>> b = Batch({}, torch.ones(5, 1), torch.ones(5), torch.arange(5))
        >>> [len(part) for part in b.split(2)]
        [2, 2, 1]
        """
        if size >= len(self):
            yield self
            return
        for start in range(0, len(self), size):
            yield self.select(slice(start, start + size))

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device; the same batch if it is there already."""
        if self.targets.device == device:
            return self
        return Batch(
            {name: value.to(device, non_blocking=True) for name, value in self.inputs.items()},
            self.targets.to(device, non_blocking=True),
            self.weights.to(device, non_blocking=True),
            self.index.to(device, non_blocking=True),
        )

"""Sharing one macro-batch among processes, and the gradient scaler: all that is accelerate's in a step."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from etude.core.batch import Batch


class Devices:
    """The processes that share the work of a step; each holds the whole macro-batch.

    Attributes:
        n: how many processes there are.
        device: this process's device.
        scaled: whether a gradient scaler is at work (fp16).
    """

    def __init__(self, accelerator: Any) -> None:
        self._accelerator = accelerator
        self.n: int = accelerator.num_processes
        self.device: torch.device = accelerator.device
        # Without a gradient scaler accelerate's wrappers only cost time: half a millisecond a step.
        self.scaled: bool = accelerator.scaler is not None

    def share(self, batch: Batch) -> Batch:
        """This process's rows of the macro-batch."""
        if self.n == 1:
            return batch
        rank, size = self._accelerator.process_index, self._size(batch)
        share = batch.select(slice(rank * size, (rank + 1) * size))
        if len(share) == 0:  # every process must take part in the backward pass
            share = batch.select(slice(0, 1))
            share = share.replace(weights=torch.zeros_like(share.weights))
        return share

    def share_of(self, values: Tensor, batch: Batch) -> Tensor:
        """This process's rows of values (B, ...) of the macro-batch, as :meth:`share` has them."""
        if self.n == 1:
            return values
        rank, size = self._accelerator.process_index, self._size(batch)
        mine = values[rank * size : (rank + 1) * size]
        return mine if len(mine) else torch.zeros_like(values[:1])

    def first_micro(self, batch: Batch, micro_batch_size: int) -> int:
        """The number that this process's first micro-batch has among all of the step."""
        if self.n == 1:
            return 0
        rank: int = self._accelerator.process_index
        return rank * -(-self._size(batch) // micro_batch_size)

    def _size(self, batch: Batch) -> int:
        return -(-len(batch) // self.n)

    def gather(self, values: Tensor, batch: Batch) -> Tensor:
        """All processes' values (B, ...), from each process's values of its share."""
        if self.n == 1:
            return values
        padded = values.new_zeros(self._size(batch), *values.shape[1:])
        padded[: len(values)] = values
        gathered: Tensor = self._accelerator.gather(padded)
        return gathered[: len(batch)]

    def sum(self, value: Tensor) -> Tensor:
        """The sum of a number over the processes."""
        if self.n == 1:
            return value
        summed: Tensor = self._accelerator.reduce(value, reduction="sum")
        return summed

    def no_sync(self, model: nn.Module) -> AbstractContextManager[None]:
        """Leave gradients on their process until the last micro-batch."""
        context: AbstractContextManager[None] = self._accelerator.no_sync(model)
        return context

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of this process's part of the loss."""
        if self.n > 1:
            loss = loss * self.n  # DDP divides by the number of processes; N already counts all of them
        if self.scaled:
            self._accelerator.backward(loss)
        else:
            loss.backward()

    def unscale(self) -> None:
        """Undo the gradient scaler, before anybody looks at gradients."""
        if self.scaled:
            self._accelerator.unscale_gradients()

    def skipped(self) -> bool:
        """Whether the gradient scaler left the optimizer's step out."""
        return self.scaled and bool(self._accelerator.optimizer_step_was_skipped)

"""Where memory does not suffice: smaller micro-batches, and the same macro-batch and result."""

from __future__ import annotations

import torch

from etude.core.batch import Batch
from etude.core.observe import Reporter
from etude.core.rng import Moment
from etude.core.step import Step, StepResult
from etude.errors import RunError


def step_within_memory(step: Step, batch: Batch, moment: Moment, reporter: Reporter) -> StepResult:
    """Take the step, halving the micro-batch as often as it takes.

    Nothing has changed when memory runs out before the optimizer's step, so the step is simply taken
    again: its batch is frozen and its draws are keyed.

    Raises:
        RunError: memory does not suffice for one row.
    """
    while True:
        try:
            return step(batch, moment)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            size = min(step.micro_batch_size, len(batch)) // 2
            if size == 0:
                raise RunError("memory does not suffice for one row; lower backbone.max_length") from None
        # Out of the except block, so that the error no longer keeps the failed pass's tensors.
        step.micro_batch_size = size
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        reporter.warn(
            f"out of memory: the micro-batch is now {size} rows; the batch of {len(batch)} rows and its "
            "result stay as they were"
        )


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a processor or on a GPU."""
    words = ("out of memory", "can't allocate memory", "not enough memory", "DefaultCPUAllocator")
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(w in str(error) for w in words)

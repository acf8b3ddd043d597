"""What a run takes of memory, and what it costs to let go of that."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

RESET_PEAK = "5"
"""What ``/proc/self/clear_refs`` takes to begin the peak anew."""


def begin_peak() -> None:
    """Let the peak of memory begin anew, where the system can."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return
    try:
        Path("/proc/self/clear_refs").write_text(RESET_PEAK)
    except OSError:
        return


def peak() -> int | None:
    """Bytes at the peak: of the GPU where there is one, else of the process; None where it is not known."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")]
    return found[0] if found else None


@contextmanager
def libraries_set_aside() -> Iterator[None]:
    """Keep the half million objects of the libraries out of the garbage collection after each run."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()

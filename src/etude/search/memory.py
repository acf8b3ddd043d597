"""How much memory there is, how much a step takes at its peak, and the largest size that fits."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from etude.errors import ConfigError

SHARE = 0.8
"""The share of the free memory that a run may take where nobody says more."""
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12,
         "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}  # fmt: skip
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
GROUPS = Path("/sys/fs/cgroup")


def read_size(text: str) -> int:
    """Return a size in bytes.

    Raises:
        ConfigError: it is none.

    >>> read_size("4GiB"), read_size("500 MB"), read_size("1.5k")
    (4294967296, 500000000, 1500)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?i?)b?\s*", text, re.IGNORECASE)
    if found is None or found[2].upper() not in UNITS:
        raise ConfigError(f"'{text}' is no amount of memory; write it as 4GiB or 500MB")
    return int(float(found[1]) * UNITS[found[2].upper()])


def show_size(n_bytes: float) -> str:
    """Return a number of bytes in words.

    >>> show_size(4294967296), show_size(1572864)
    ('4.00 GiB', '1.5 MiB')
    """
    return f"{n_bytes / 2**30:.2f} GiB" if n_bytes >= 2**29 else f"{n_bytes / 2**20:.1f} MiB"


def free_memory() -> int:
    """The memory that is free for this process: the machine's, or what its control group still grants."""
    free = int(psutil.virtual_memory().available)
    with suppress(OSError, ValueError):
        limit, used = ((GROUPS / name).read_text() for name in ("memory.max", "memory.current"))
        free = min(free, max(int(limit) - int(used), 0))
    return free


def resident_memory() -> int:
    """The memory that this process holds now."""
    return int(psutil.Process().memory_info().rss)


@dataclass
class Peak:
    """The most memory that was held within a context, in bytes."""

    bytes: int = 0


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Peak]:
    """Measure the most memory that is held meanwhile: on the GPU, or by this process.

    On Linux the kernel counts (``VmHWM``, set back before); elsewhere a thread looks every millisecond.
    """
    peak = Peak()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield peak
        peak.bytes = torch.cuda.max_memory_reserved(device)
        return
    try:
        CLEAR.write_text("5")
        high_water = True
    except OSError:
        high_water = False
    if high_water:
        yield peak
        found = re.search(r"VmHWM:\s*(\d+) kB", STATUS.read_text())
        peak.bytes = int(found[1]) * 1024 if found else resident_memory()
        return
    done = threading.Event()

    def look() -> None:
        process = psutil.Process()
        while not done.is_set():
            peak.bytes = max(peak.bytes, process.memory_info().rss)
            time.sleep(0.001)

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()


def largest(peak_of: Callable[[int], int | None], limit: int | None, most: int) -> tuple[int, dict[int, int]]:
    """Return the largest size up to ``most`` whose peak is within the limit, by doubling, then bisecting.

    A size is not tried where the peaks known so far, on a straight line, foretell more than the limit: the
    machine need not be driven over it.

    Args:
        peak_of: the peak in bytes at a size, or None where memory ran out.
        limit: the bytes that may be held; None where only running out counts.
        most: the largest size that makes sense.

    Returns:
        The size, 0 where not even 1 fits, and the peaks by the sizes that were tried.

    >>> largest(lambda n: 100 + 10 * n, 500, 64)[0]
    40
    >>> largest(lambda n: None if n > 13 else n, None, 64)[0]
    13
    """
    peaks: dict[int, int] = {}

    def fits(size: int) -> bool:
        if limit is not None and len(peaks) > 1 and _foretold(peaks, size) > limit:
            return False
        found = peak_of(size)
        if found is None:
            return False
        peaks[size] = found
        return limit is None or found <= limit

    size = 1
    if not fits(1):
        return 0, peaks
    while size < most and fits(min(2 * size, most)):
        size = min(2 * size, most)
    low, high = size, min(2 * size, most + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low, peaks


def _foretold(peaks: dict[int, int], size: int) -> float:
    """The peak at a size on the line through the two largest sizes that are known."""
    first, second = sorted(peaks)[-2:]
    slope = max(peaks[second] - peaks[first], 0) / (second - first)
    return peaks[second] + slope * (size - second)

"""Keyed randomness: every draw is a function of (seed, who draws, when).

There is no random state to save or to restore. A replayed step draws the same numbers, adding a
technique does not shift another's draws, and a resumed run needs nothing but its step number.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch


def key(seed: int, *names: str | int) -> int:
    """Return a 63-bit number that depends on the seed and on every name, and on nothing else.

    >>> key(0, "mixup", 7) == key(0, "mixup", 7)
    True
    >>> key(0, "mixup", 7) == key(0, "mixup", 8)
    False
    """
    digest = hashlib.blake2b(repr((seed, *names)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def torch_generator(seed: int, *names: str | int) -> torch.Generator:
    """Return a CPU generator for the key."""
    return torch.Generator().manual_seed(key(seed, *names))


def numpy_generator(seed: int, *names: str | int) -> np.random.Generator:
    """Return a NumPy generator (SFC64, the fastest) for the key."""
    return np.random.Generator(np.random.SFC64(key(seed, *names)))


@dataclass(frozen=True, slots=True)
class Moment:
    """Where training stands, and the source of the draws that belong to this moment.

    Attributes:
        seed: the run's seed.
        step: optimizer steps done so far.
        epoch: the running epoch, from 0.
        steps_per_epoch: steps in the running epoch.
        total_steps: steps of the whole run.
    """

    seed: int
    step: int
    epoch: int
    steps_per_epoch: int
    total_steps: int

    @property
    def progress(self) -> float:
        """The share of the run that is done, from 0 to 1."""
        return self.step / self.total_steps

    def torch(self, name: str) -> torch.Generator:
        """The generator of ``name`` at this step."""
        return torch_generator(self.seed, name, self.step)

    def numpy(self, name: str) -> np.random.Generator:
        """The NumPy generator of ``name`` at this step."""
        return numpy_generator(self.seed, name, self.step)

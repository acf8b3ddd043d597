"""Dropout whose masks are a function of a key and of nothing else.

A step can then be replayed with the same masks, and a resumed run needs no random state. It is also
fast: on a processor, torch draws a mask with a serial generator, which takes 15 % of a MiniLM step;
here 16 random bits an element come from NumPy's SFC64 and are compared in vector instructions, 8 to
12 times faster. On other devices torch's own generator is fast, and is seeded with the key.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

RESOLUTION = 1 << 16
"""A drop probability is rounded to a multiple of 1 / RESOLUTION, and the scale follows it exactly."""

_FULL = np.iinfo(np.uint64).max


class DropoutKeys:
    """The random bits that all dropout layers of one model share.

    The n-th layer that draws after :meth:`set` gets the n-th stretch of the key's stream.
    """

    def __init__(self) -> None:
        self._generator: np.random.Generator | None = None

    @property
    def ready(self) -> bool:
        """Whether a key was set; without one, torch's own dropout is used."""
        return self._generator is not None

    def set(self, key: int) -> None:
        """Begin the stream of a key, and seed torch's generators for dropout that is not ours."""
        self._generator = np.random.Generator(np.random.SFC64(key))
        torch.default_generator.manual_seed(key)
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            torch.cuda.manual_seed(key)

    def replay(self) -> Callable[[], None]:
        """Remember the place in the stream; the function that is returned goes back to it."""
        generator = self._generator
        if generator is None:
            return lambda: None
        state = generator.bit_generator.state

        def go_back() -> None:
            self._generator = generator
            generator.bit_generator.state = state

        return go_back

    def bits(self, n: int) -> NDArray[np.uint16]:
        """Return the next n random 16-bit numbers."""
        if self._generator is None:
            raise RuntimeError("no dropout key was set; call Backbone.key_randomness first")
        words = self._generator.integers(0, _FULL, size=-(-n // 4), dtype=np.uint64, endpoint=True)
        return words.view(np.uint16)[:n]


class _Dropout(torch.autograd.Function):
    """x * keep * scale, in one pass over the data and rounded once."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, keep: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(keep)
        ctx.scale = scale
        return torch.addcmul(x.new_zeros(()), x, keep, value=scale)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None, None]:
        (keep,) = ctx.saved_tensors
        (grad,) = grads
        return torch.addcmul(grad.new_zeros(()), grad, keep.to(grad.dtype), value=ctx.scale), None, None


def keyed_dropout(x: Tensor, p: float, keys: DropoutKeys) -> Tensor:
    """Set each element of ``x`` to zero with probability ``p`` and scale the others by 1 / (1 - p).

    >>> keys = DropoutKeys()
    >>> keys.set(0)
    >>> keyed_dropout(torch.ones(8), 0.5, keys)
    tensor([0., 2., 2., 2., 2., 0., 2., 0.])
    """
    if not keys.ready or x.device.type != "cpu" or x.dtype == torch.float64:
        return F.dropout(x, p, training=True)
    threshold = round(p * RESOLUTION)
    if threshold == 0:
        return x
    if threshold == RESOLUTION:
        return x * 0.0
    dropped: Tensor = _Dropout.apply(x, *keyed_mask(x.shape, p, keys, x.dtype))
    return dropped


def keyed_mask(shape: Sequence[int], p: float, keys: DropoutKeys, dtype: torch.dtype) -> tuple[Tensor, float]:
    """Draw a mask on a processor: 1 where an element is kept, and the scale of what is kept.

    Args:
        shape: the mask's.
        p: drop probability, rounded to a multiple of 1 / RESOLUTION and below 1.
        keys: what is drawn from.
        dtype: the mask's.

    >>> keys = DropoutKeys()
    >>> keys.set(0)
    >>> keyed_mask((8,), 0.5, keys, torch.float32)
    (tensor([0., 1., 1., 1., 1., 0., 1., 0.]), 2.0)
    """
    threshold = round(p * RESOLUTION)
    kept = keys.bits(math.prod(shape)) >= np.uint16(threshold)
    # A detour over bytes: torch converts these to floats in vector instructions, but not booleans.
    keep = torch.from_numpy(kept.view(np.uint8)).view(tuple(shape)).to(dtype)
    return keep, RESOLUTION / (RESOLUTION - threshold)


class KeyedDropout(nn.Dropout):
    """``nn.Dropout`` whose masks come from the model's :class:`DropoutKeys`."""

    def __init__(self, p: float, keys: DropoutKeys) -> None:
        super().__init__(p)
        self.keys = keys

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name that torch gave it
        if not self.training or self.p == 0.0:
            return input
        return keyed_dropout(input, self.p, self.keys)


def key_dropout_layers(model: nn.Module, keys: DropoutKeys) -> int:
    """Exchange every dropout layer of a model for a keyed one; return how many there are."""
    n_layers = 0
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.Dropout) or type(child).__name__ == "StableDropout":
                keyed = child if isinstance(child, KeyedDropout) else KeyedDropout(_rate(child), keys)
                keyed.keys = keys
                keyed.training = child.training
                setattr(parent, name, keyed)
                n_layers += 1
    return n_layers


def dropout_layers(model: nn.Module) -> Iterator[nn.Dropout]:
    """Yield the dropout layers of a model."""
    return (module for module in model.modules() if isinstance(module, nn.Dropout))


def _rate(layer: nn.Module) -> float:
    rate = getattr(layer, "p", None)
    return float(rate if rate is not None else getattr(layer, "drop_prob", 0.0))

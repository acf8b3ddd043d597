"""A linear layer whose weight is kept in 4 or 8 bits and made whole for each product.

The weight does not train. It is stored by bitsandbytes, which is imported when a layer is made or used.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from etude.extras import require

Kind = Literal["nf4", "fp4", "int8"]
BLOCK = 64
"""Numbers of a weight that share one scale in 4 bits (Dettmers et al. 2023, section 3)."""


def bitsandbytes(technique: str = "quantised") -> Any:
    """Import bitsandbytes without the line that it prints on a processor.

    Raises:
        ConfigError: it is not installed.
    """
    # It says that a faster 4-bit product is missing, which is not used here.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    return require("bitsandbytes", extra="quantised", technique=technique)


def quantise(weight: Tensor, kind: Kind) -> tuple[Tensor, Tensor]:
    """Return a weight in few bits, with the scales that make it whole again.

    Args:
        weight: (out, in).
        kind: ``"nf4"`` and ``"fp4"`` for 4 bits, with one scale for 64 numbers; ``"int8"`` for 8 bits, with
            one scale for a row.

    Returns:
        Bytes, for 4 bits two numbers in each: (ceil(out in / 2), 1) or (out, in); and scales (n,), the
        largest absolute value of each block or row.

    >>> packed, scales = quantise(torch.tensor([[0.5, -1.0, 0.25, 0.0]]), "int8")
    >>> packed.tolist(), scales.tolist()
    ([[64, -127, 32, 0]], [1.0])
    """
    functional = bitsandbytes().functional
    whole = weight.detach().float().contiguous()
    if kind == "int8":
        packed, scales, _ = functional.int8_vectorwise_quant(whole)
        return packed, scales
    packed, state = functional.quantize_4bit(whole, quant_type=kind, blocksize=BLOCK)
    return packed, state.absmax


def dequantise(packed: Tensor, scales: Tensor, kind: Kind, shape: torch.Size) -> Tensor:
    """Return the weight (out, in) in float32 that :func:`quantise` has stored.

    >>> weight = torch.tensor([[0.5, -1.0, 0.25, 0.0]])
    >>> dequantise(*quantise(weight, "nf4"), "nf4", weight.shape)
    tensor([[ 0.4407, -1.0000,  0.2461,  0.0000]])
    """
    functional = bitsandbytes().functional
    if kind == "int8":
        return packed.float() * (scales / 127.0)[:, None]
    state = functional.QuantState(
        absmax=scales, shape=shape, blocksize=BLOCK, quant_type=kind, dtype=torch.float32,
        code=_table(kind, packed.device),
    )  # fmt: skip
    whole: Tensor = functional.dequantize_4bit(packed, state)
    return whole


@cache
def _table(kind: Kind, device: torch.device) -> Tensor:
    """The 16 numbers of a kind; made once, since each copy makes the host wait for the device."""
    with torch.inference_mode(False):
        table: Tensor = bitsandbytes().functional.get_4bit_type(kind, device=device, blocksize=BLOCK)
    return table


class QuantisedLinear(nn.Module):
    """y = x Wᵀ + b, with W (out, in) in few bits.

    Attributes:
        packed: W's numbers; see :func:`quantise`.
        scales: W's scales, float32.
        bias: (out,) or none, as it was.
    """

    packed: Tensor
    scales: Tensor

    def __init__(self, layer: nn.Linear, kind: Kind) -> None:
        """Take the place of a layer.

        Args:
            layer: whose weight is quantised; its bias goes over.
            kind: see :func:`quantise`.
        """
        super().__init__()
        self.in_features, self.out_features, self.kind = layer.in_features, layer.out_features, kind
        packed, scales = quantise(layer.weight, kind)
        self.register_buffer("packed", packed)
        self.register_buffer("scales", scales)
        self.bias: nn.Parameter | None = layer.bias

    @property
    def weight(self) -> Tensor:
        """W (out, in) in float32, made anew at each call."""
        return dequantise(
            self.packed, self.scales.float(), self.kind, torch.Size((self.out_features, self.in_features))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out)."""
        product: Tensor = _Product.apply(x, self)
        return product if self.bias is None else product + self.bias.to(product.dtype)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, kind={self.kind}"


class _Product(torch.autograd.Function):
    """x Wᵀ; the whole weight is made again for the gradient and never kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: QuantisedLinear) -> Tensor:
        ctx.layer, ctx.dtype = layer, x.dtype
        return F.linear(x, layer.weight.to(x.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None]:
        (grad,) = grads
        return (grad @ ctx.layer.weight.to(grad.dtype)).to(ctx.dtype), None

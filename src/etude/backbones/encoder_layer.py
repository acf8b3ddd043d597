"""One layer of BERT as a single autograd step, with its backward pass written out.

The formula, with the rows x (R, D) of all tokens, H heads and GELU g:

* q, k, v = x W_q + b_q, x W_k + b_k, x W_v + b_v, in one matrix product
* a = softmax(q kᵀ / sqrt(D/H) + mask) v, for each head; dropout on the softmax
* y = LayerNorm(x + dropout(a W_o + b_o))
* z = LayerNorm(y + dropout(g(y W_1 + b_1) W_2 + b_2))

The matrix products with weights are computed in ``dtype``; sums, LayerNorm and attention in the type
of x, as under autocast or more exactly. Autograd would keep a node for each of 40 operations, cast
every gradient on its own and visit Python for each dropout; here a layer is one node, which takes half
of the time at batches of 8 short texts.

Devlin et al. 2018 (1810.04805); the layer is that of Vaswani et al. 2017 (1706.03762), section 3.1.
Shapes: B texts, L tokens, H heads, D width, F inner width; R = B L rounded up to whole tiles.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

FEW_ROWS = 256
"""Up to here gradients of weights are written in float32; the product of 512 rows is slower so."""


class Weights(NamedTuple):
    """The sixteen parameters of a layer, in the order that :func:`encoder_layer` takes them."""

    query: Tensor
    query_bias: Tensor
    key: Tensor
    key_bias: Tensor
    value: Tensor
    value_bias: Tensor
    out: Tensor
    out_bias: Tensor
    norm: Tensor
    norm_bias: Tensor
    up: Tensor
    up_bias: Tensor
    down: Tensor
    down_bias: Tensor
    last_norm: Tensor
    last_norm_bias: Tensor


class Drop(NamedTuple):
    """A dropout mask: 1 where an element is kept, and the factor on what is kept."""

    keep: Tensor
    scale: float


@dataclass(frozen=True, slots=True)
class Shape:
    """What a layer must know besides tensors.

    Attributes:
        n_texts: B.
        n_tokens: L.
        n_heads: H.
        width: D.
        eps: added to the variance by the first and by the last LayerNorm.
        dtype: of the matrix products with weights.
    """

    n_texts: int
    n_tokens: int
    n_heads: int
    width: int
    eps: tuple[float, float]
    dtype: torch.dtype


def encoder_layer(
    x: Tensor,
    mask: Tensor,
    drops: tuple[Drop | None, Drop | None, Drop | None],
    shape: Shape,
    weights: Weights,
) -> Tensor:
    """Return the layer's output (R, D).

    Args:
        x: (R, D), rows of tokens; rows from B L on are filling, whose gradients must be zero.
        mask: (B H, 1, L), added to the scores.
        drops: the masks for the softmax (B H, L, L), the attention's output (R, D) and the layer's (R, D).
        shape: sizes, and the type to compute in.
        weights: matrices as ``nn.Linear`` has them.
    """
    output: Tensor = _EncoderLayer.apply(x, mask, drops, shape, *weights)
    return output


def _dropped(x: Tensor, drop: Drop | None) -> Tensor:
    """x, with dropout where there is any."""
    return x if drop is None else torch.mul(x, drop.keep).mul_(drop.scale)


class _EncoderLayer(torch.autograd.Function):
    """The layer; ``ctx`` keeps what the backward pass reads."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mask: Tensor, drops: Any, shape: Shape, *weights: Tensor) -> Tensor:
        w = Weights(*weights)
        dtype, width = shape.dtype, x.shape[1]
        drop_softmax, drop_out, drop_last = drops

        x_low = x.to(dtype)
        w_qkv = torch.cat([w.query.to(dtype), w.key.to(dtype), w.value.to(dtype)])
        b_qkv = torch.cat([w.query_bias, w.key_bias, w.value_bias]).to(dtype)
        heads = _split_heads(F.linear(x_low, w_qkv, b_qkv), shape, x.dtype)
        query, key, value = heads
        scores = torch.baddbmm(mask, query, key.transpose(1, 2), alpha=query.shape[2] ** -0.5)
        softmax = scores.softmax(dim=2)
        attended = _join_heads((_dropped(softmax, drop_softmax) @ value)[None], shape, len(x))

        w_out = w.out.to(dtype)
        out = F.linear(attended, w_out, w.out_bias.to(dtype))
        middle = _add_dropped(x, out, drop_out)
        y, *stats = torch.native_layer_norm(middle, [width], w.norm, w.norm_bias, shape.eps[0])

        y_low, w_up, w_down = y.to(dtype), w.up.to(dtype), w.down.to(dtype)
        inner = F.linear(y_low, w_up, w.up_bias.to(dtype))
        active = F.gelu(inner)
        down = F.linear(active, w_down, w.down_bias.to(dtype))
        last = _add_dropped(y, down, drop_last)
        z, *last_stats = torch.native_layer_norm(last, [width], w.last_norm, w.last_norm_bias, shape.eps[1])

        ctx.shape, ctx.drops = shape, drops
        ctx.save_for_backward(
            x_low, heads, softmax, attended, middle, *stats, y_low, inner, active, last, *last_stats,
            w_qkv, w_out, w_up, w_down, w.norm, w.norm_bias, w.last_norm, w.last_norm_bias,
        )  # fmt: skip
        return z

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        with torch.autocast(grads[0].device.type, enabled=False):
            return _gradients(ctx, grads[0])


def _gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    """The gradients of everything that :class:`_EncoderLayer` takes, from that of its output (R, D)."""
    (x_low, heads, softmax, attended, middle, mean, rstd, y_low, inner, active, last, last_mean, last_rstd,
     w_qkv, w_out, w_up, w_down, norm, norm_bias, last_norm, last_norm_bias) = ctx.saved_tensors  # fmt: skip
    shape: Shape = ctx.shape
    drop_softmax, drop_out, drop_last = ctx.drops
    needs = dict(zip(Weights._fields, ctx.needs_input_grad[4:], strict=True))
    width = grad.shape[1]
    dtype = shape.dtype

    d_last, d_last_norm, d_last_norm_bias = torch.ops.aten.native_layer_norm_backward(
        grad, last, [width], last_mean, last_rstd, last_norm, last_norm_bias, [True, True, True]
    )
    d_down = _dropped(d_last, drop_last).to(dtype)
    d_inner = torch.ops.aten.gelu_backward(d_down @ w_down, inner)
    d_y = d_last + d_inner @ w_up
    d_middle, d_norm, d_norm_bias = torch.ops.aten.native_layer_norm_backward(
        d_y, middle, [width], mean, rstd, norm, norm_bias, [True, True, True]
    )
    d_out = _dropped(d_middle, drop_out).to(dtype)
    d_heads = _attention_gradients(d_out @ w_out, heads, softmax, drop_softmax, shape)
    d_qkv = _join_heads(d_heads, shape, len(x_low))
    d_x = d_middle + d_qkv @ w_qkv if ctx.needs_input_grad[0] else None

    qkv: list[Tensor | None] = [None] * 3
    if needs["query"] or needs["key"] or needs["value"]:
        qkv = list(_weight_gradient(d_qkv, x_low, norm.dtype).split(width))
    qkv_bias = d_qkv.sum(0).to(norm.dtype).split(width)
    found = {
        "query": qkv[0], "query_bias": qkv_bias[0], "key": qkv[1], "key_bias": qkv_bias[1],
        "value": qkv[2], "value_bias": qkv_bias[2],
        "out_bias": d_out.sum(0).to(norm.dtype), "norm": d_norm, "norm_bias": d_norm_bias,
        "up_bias": d_inner.sum(0).to(norm.dtype), "down_bias": d_down.sum(0).to(norm.dtype),
        "last_norm": d_last_norm, "last_norm_bias": d_last_norm_bias,
    }  # fmt: skip
    for name, d_output, given in (("out", d_out, attended), ("up", d_inner, y_low), ("down", d_down, active)):
        found[name] = _weight_gradient(d_output, given, norm.dtype) if needs[name] else None
    return (d_x, None, None, None, *(found[name] if needs[name] else None for name in Weights._fields))


def _weight_gradient(d_output: Tensor, given: Tensor, dtype: torch.dtype) -> Tensor:
    """d_outputᵀ given (out, in) in ``dtype``, from operands of the type that was computed in.

    For few rows the product of large matrices is mostly the writing of its result. It is then written
    in float32 at once, which oneDNN can do with operands rounded to bfloat16: casting the result
    afterwards took 0.26 ms for a matrix of 1536 x 384, as long as half of the product of 144 rows.
    """
    if d_output.dtype != torch.bfloat16 or len(given) > FEW_ROWS or not _mixed_products():
        return (d_output.t() @ given).to(dtype)
    settings: Any = getattr(torch.backends.mkldnn, "matmul")  # noqa: B009 - not in every version of torch
    before = settings.fp32_precision
    settings.fp32_precision = "bf16"  # exact here, since the operands are bfloat16 numbers
    try:
        return d_output.to(dtype).t() @ given.to(dtype)
    finally:
        settings.fp32_precision = before


@cache
def _mixed_products() -> bool:
    """Whether products of float32 matrices may be computed in bfloat16, in newer torch and with AMX."""
    newer = hasattr(getattr(torch.backends.mkldnn, "matmul", None), "fp32_precision")
    return newer and bool(torch.cpu._is_amx_tile_supported())


def _attention_gradients(
    d_attended: Tensor, heads: Tensor, softmax: Tensor, drop: Drop | None, shape: Shape
) -> Tensor:
    """The gradients (3, B H, L, D/H) of queries, keys and values, from that of the attention's output."""
    query, key, value = heads
    scale = query.shape[2] ** -0.5
    d_heads = torch.empty_like(heads)
    d_output = _split_heads(d_attended, shape, heads.dtype)[0]
    torch.bmm(_dropped(softmax, drop).transpose(1, 2), d_output, out=d_heads[2])
    d_softmax = _dropped(d_output @ value.transpose(1, 2), drop)
    d_scores = torch.ops.aten._softmax_backward_data(d_softmax, softmax, 2, softmax.dtype).mul_(scale)
    torch.bmm(d_scores, key, out=d_heads[0])
    torch.bmm(d_scores.transpose(1, 2), query, out=d_heads[1])
    return d_heads


def _add_dropped(x: Tensor, added: Tensor, drop: Drop | None) -> Tensor:
    """X + dropout(added)."""
    return x + added if drop is None else torch.addcmul(x, added.to(x.dtype), drop.keep, value=drop.scale)


def _split_heads(rows: Tensor, shape: Shape, dtype: torch.dtype) -> Tensor:
    """(R, n D) -> (n, B H, L, D/H), without the filling."""
    sizes = (shape.n_texts, shape.n_tokens, -1, shape.n_heads, shape.width // shape.n_heads)
    parts = rows[: shape.n_texts * shape.n_tokens].view(sizes).permute(2, 0, 3, 1, 4)
    heads = torch.empty(parts.shape, dtype=dtype, device=rows.device).copy_(parts)
    return heads.view(len(parts), -1, shape.n_tokens, sizes[-1])


def _join_heads(heads: Tensor, shape: Shape, n_rows: int) -> Tensor:
    """(n, B H, L, D/H) -> (R, n D) in the type to compute in; rows of filling are zero."""
    n_texts, n_tokens, n_heads = shape.n_texts, shape.n_tokens, shape.n_heads
    n = len(heads)
    rows = torch.empty((n_rows, n * shape.width), dtype=shape.dtype, device=heads.device)
    rows[n_texts * n_tokens :].zero_()
    parts = heads.view(n, n_texts, n_heads, n_tokens, -1).permute(1, 3, 0, 2, 4)
    rows[: n_texts * n_tokens].view(parts.shape).copy_(parts)
    return rows

"""Mixup and CutMix against their formulae written out, in float64."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from etude.techniques.mixing.cutmix import box_around, exchange, paste
from etude.techniques.mixing.hidden_mixup import mix
from etude.techniques.mixing.mixup import mix_rows


def rows() -> Iterator[tuple[str, str, float]]:
    """Yield technique, reference and the largest absolute difference."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(6, 3, 8, 10, generator=generator, dtype=torch.float64)
    partners = torch.tensor([3, 0, 5, 1, 4, 2])
    lam = torch.rand(6, generator=generator, dtype=torch.float64)
    yield (
        "mixup",
        "torch.lerp of an example and its partner",
        _apart(
            mix_rows(images, partners, lam),
            torch.lerp(images[partners], images, lam[:, None, None, None]),
        ),
    )
    yield (
        "hidden_mixup",
        "torch.lerp of an example and its partner",
        _apart(
            mix(images, images[partners], lam), torch.lerp(images[partners], images, lam[:, None, None, None])
        ),
    )
    one, same = torch.nn.functional.cross_entropy, lam[:, None]
    logits, classes = torch.randn(6, 4, generator=generator, dtype=torch.float64), torch.arange(6) % 4
    soft = mix_rows(torch.eye(4, dtype=torch.float64)[classes], partners, lam)
    split = same[:, 0] * one(logits, classes, reduction="none")
    split = split + (1 - same[:, 0]) * one(logits, classes[partners], reduction="none")
    yield (
        "mixup",
        "λ CE(y_i) + (1 - λ) CE(y_j) by torch, the form of the paper's code",
        _apart(one(logits, soft, reduction="none"), split),
    )
    yield "cutmix", "a loop over every pixel, algorithm A1 of the paper", max(_cut(images, partners))
    taken = torch.rand(7, generator=generator) < 0.4
    table = torch.randn(6, 7, generator=generator, dtype=torch.float64)
    mask = taken.double()
    yield (
        "cutmix",
        "m x_j + (1 - m) x_i over columns",
        _apart(exchange(table, partners, taken), mask * table[partners] + (1 - mask) * table),
    )


def _cut(images: Tensor, partners: Tensor) -> Iterator[float]:
    """Differences for boxes of many sizes and places, of the pixels and of the shares."""
    height, width = images.shape[2:]
    for lam in (0.0, 0.1, 0.37, 0.8, 0.99, 1.0):
        for x in (0.0, 0.45, 0.99):
            for y in (0.0, 0.6, 0.99):
                mixed, share = paste(images, partners, box_around(height, width, lam, (y, x)))
                half_h = int(height * math.sqrt(1 - lam)) // 2
                half_w = int(width * math.sqrt(1 - lam)) // 2
                expected, n_cut = images.clone(), 0
                for row in range(height):
                    for column in range(width):
                        inside = -half_h <= row - int(y * height) < half_h
                        if inside and -half_w <= column - int(x * width) < half_w:
                            expected[:, :, row, column] = images[partners, :, row, column]
                            n_cut += 1
                yield _apart(mixed, expected)
                yield abs(share - n_cut / (height * width))


def _apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())

"""Distillation against torch's distributions and against loops, in float64."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, kl_divergence

from etude.techniques.distill.distillation import sigmoid_kl_terms, softmax_kl_terms
from etude.techniques.distill.self_distillation import believe, share_of
from etude.techniques.distill.similarity_distillation import similarity_terms, summed_terms


def rows() -> Iterator[tuple[str, str, float]]:
    """Yield technique, reference, and the largest absolute difference in float64."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = (3 * torch.randn(16, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    classes = kl_divergence(Categorical(logits=teacher / 3), Categorical(logits=student / 3))
    yield (
        "distillation",
        "torch.distributions, KL divergence of categories, times T²",
        _apart(softmax_kl_terms(student, teacher, 3.0).sum(dim=1), 9 * classes),
    )
    coins = kl_divergence(Bernoulli(logits=teacher / 3), Bernoulli(logits=student / 3))
    yield (
        "distillation",
        "torch.distributions, KL divergence of coins, times T² / C",
        _apart(sigmoid_kl_terms(student, teacher, 3.0), 9 * coins / 5),
    )
    narrow = [torch.randn(6, 3, generator=generator, dtype=torch.float64) for _ in range(3)]
    wide = [torch.randn(6, 7, generator=generator, dtype=torch.float64) for _ in range(3)]
    one = similarity_terms(narrow[0], wide[0]).mean()
    yield (
        "similarity_distillation",
        "equations 1 to 4, entry by entry",
        _apart(one, _loops(narrow[:1], wide[:1])),
    )
    every = summed_terms(narrow, wide, {}, 3).mean()
    yield "similarity_distillation", "the sum over three pairs of layers", _apart(every, _loops(narrow, wide))
    targets, told = torch.eye(5, dtype=torch.float64), teacher[:5].softmax(dim=1)
    shares = [0.8 * (epoch + 1) / 10 for epoch in range(1, 10)]
    expected = torch.stack([(1 - share) * targets + share * told for share in shares])
    found = torch.stack([believe(targets, told, share_of(epoch, 10, 0.8)) for epoch in range(1, 10)])
    yield "self_distillation", "equations 5 and 6 of the paper", _apart(found, expected)


def _loops(student: list[Tensor], teacher: list[Tensor]) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for layers in zip(student, teacher, strict=True):
        rows = []
        for values in layers:
            products = torch.stack([torch.stack([a.dot(b) for b in values]) for a in values])
            rows.append(torch.stack([row / row.square().sum().sqrt() for row in products]))
        total = total + (rows[0] - rows[1]).square().sum() / len(rows[0]) ** 2
    return total


def _apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())

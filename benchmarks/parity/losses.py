"""Every loss against a reference that is written another way, in float64.

The references are torch's own losses, or the papers' formulas as they are printed: with explicit
probabilities, powers and loops over rows, and without any of the rearrangements that the losses
need to stay finite in float32.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from etude.techniques.losses import (
    asymmetric,
    bce,
    cross_entropy,
    cyclical_focal,
    distribution_balanced,
    focal,
    forward_correction,
    generalized_cross_entropy,
    kl_divergence,
    logit_adjusted,
    poly,
    supervised_contrastive,
    symmetric_cross_entropy,
)
from etude.techniques.stability import float64_loss

B, C, D = 48, 6, 5
Row = tuple[str, str, float]


def rows() -> Iterator[Row]:
    """Yield (technique, reference in words, largest absolute difference in float64)."""
    data = _Data()
    yield from _plain(data)
    yield from _focal_family(data)
    yield from _polynomials(data)
    yield from _for_noise(data)
    yield from _for_long_tails(data)
    yield from _of_features(data)


class _Data:
    """Seeded logits (B, C) with classes, soft rows and sets of labels.

    Attributes:
        z: (B, C) logits.
        classes: (B,) the right class of each row.
        hard: (B, C) its one-hot form.
        soft: (B, C) rows that sum to one.
        several: (B, C) zeros and ones, with a row of zeros at the end.
        p: (B, C) softmax of the logits.
        p_t: (B,) probability of the right class.
        s: (B, C) sigmoid of the logits.
    """

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.z = 2.0 * torch.randn(B, C, generator=generator, dtype=torch.float64)
        self.classes = torch.randint(C, (B,), generator=generator)
        self.hard = F.one_hot(self.classes, C).double()
        self.soft = torch.randn(B, C, generator=generator, dtype=torch.float64).softmax(dim=1)
        self.several = (torch.rand(B, C, generator=generator) < 0.3).double()
        self.several[-1] = 0.0
        self.several[0] = 1.0
        self.features = torch.randn(B, D, generator=generator, dtype=torch.float64)
        self.weights = torch.rand(B, generator=generator, dtype=torch.float64)
        self.p = self.z.exp() / self.z.exp().sum(dim=1, keepdim=True)
        self.p_t = self.p[torch.arange(B), self.classes]
        self.s = 1.0 / (1.0 + (-self.z).exp())


def _row(technique: str, reference: str, ours: Tensor, theirs: Tensor) -> Row:
    if ours.dtype != torch.float64 or theirs.dtype != torch.float64 or ours.shape != theirs.shape:
        raise TypeError(f"{technique}: {ours.dtype} {ours.shape} against {theirs.dtype} {theirs.shape}")
    return technique, reference, float((ours - theirs).abs().max())


def _either(targets: Tensor, held: Tensor, absent: Tensor) -> Tensor:
    """The mean over labels of what holds and what does not, as papers print multilabel losses."""
    return torch.where(targets == 1, held, absent).mean(dim=1)


def _plain(d: _Data) -> Iterator[Row]:
    ce, of = cross_entropy.cross_entropy_terms, "torch.nn.functional"
    yield _row("cross_entropy", f"{of}.cross_entropy, classes", ce(d.z, d.hard).sum(1),
               F.cross_entropy(d.z, d.classes, reduction="none"))  # fmt: skip
    yield _row("cross_entropy", f"{of}.cross_entropy, soft targets", ce(d.z, d.soft).sum(1),
               F.cross_entropy(d.z, d.soft, reduction="none"))  # fmt: skip
    positive = torch.linspace(0.5, 3.0, C, dtype=torch.float64)
    theirs = F.binary_cross_entropy_with_logits(d.z, d.several, reduction="none", pos_weight=positive)
    ours = bce.bce_terms(d.z, d.several, positive)
    yield _row("bce", f"{of}.binary_cross_entropy_with_logits, pos_weight", ours, theirs / C)
    theirs = F.binary_cross_entropy_with_logits(d.z, d.hard, reduction="none")
    yield _row(
        "bce", f"{of}.binary_cross_entropy_with_logits, one-hot", bce.bce_terms(d.z, d.hard), theirs / C
    )
    ours = kl_divergence.kl_softmax_terms(d.z, d.soft)
    yield _row("kl_divergence", f"{of}.kl_div", ours,
               F.kl_div(d.z.log_softmax(1), d.soft, reduction="none"))  # fmt: skip
    coins = torch.distributions.Bernoulli(probs=d.soft), torch.distributions.Bernoulli(logits=d.z)
    theirs = torch.distributions.kl_divergence(*coins) / C
    yield _row("kl_divergence", "torch.distributions, one coin for each label",
               kl_divergence.kl_sigmoid_terms(d.z, d.soft), theirs)  # fmt: skip
    lifted = cross_entropy.cross_entropy_terms(float64_loss.to_float64(d.z.float()), d.hard).sum(1)
    yield _row("float64_loss", "cross-entropy of logits that were float64 from the start", lifted,
               F.cross_entropy(d.z.float().double(), d.classes, reduction="none"))  # fmt: skip


def _focal_family(d: _Data) -> Iterator[Row]:
    ours = focal.focal_softmax_terms(d.z, d.hard, 2.0).sum(1)
    yield _row("focal", "the paper's equation 4", ours, -((1 - d.p_t) ** 2) * d.p_t.log())
    alpha, s = 0.25, d.s
    theirs = _either(d.several, -alpha * (1 - s) ** 2 * s.log(), -(1 - alpha) * s**2 * (1 - s).log())
    ours = focal.focal_sigmoid_terms(d.z, d.several, 2.0, alpha).sum(1)
    yield _row("focal", "the paper's equation 5, sigmoids", ours, theirs)
    xi = 0.3
    cycle = (xi * (1 + d.p_t) ** 3 + (1 - xi) * (1 - d.p_t) ** 2) * -d.p_t.log()
    ours = cyclical_focal.cyclical_focal_softmax_terms(d.z, d.hard, 3.0, 2.0, xi).sum(1)
    yield _row("cyclical_focal", "the paper's two parts, weighted", ours, cycle)
    epochs = torch.arange(201, dtype=torch.float64)
    paper = torch.where(4 * epochs <= 200, 1 - 4 * epochs / 200, (4 * epochs / 200 - 1) / (4 - 1))
    shares = [cyclical_focal.share_of_sure(float(e) / 200, 4.0) for e in epochs]
    yield _row(
        "cyclical_focal", "the paper's ξ over 200 epochs", torch.tensor(shares, dtype=torch.float64), paper
    )
    margin = torch.clamp(s - 0.05, min=0.0)
    theirs = _either(d.several, -(1 - s) * s.log(), -(margin**4) * (1 - margin).log())
    ours = asymmetric.asymmetric_sigmoid_terms(d.z, d.several, 4.0, 1.0, 0.05).sum(1)
    yield _row("asymmetric", "the paper's loss with a margin", ours, theirs)
    ours = asymmetric.asymmetric_softmax_terms(d.z, d.hard, 4.0, 1.0, 0.1).sum(1)
    yield _row("asymmetric", "the authors' single-label form, row by row", ours, _asymmetric_of_one_label(d))


def _asymmetric_of_one_label(d: _Data) -> Tensor:
    losses = []
    for p, right in zip(d.p, d.classes.tolist(), strict=True):
        loss = p.new_zeros(())
        for c in range(C):
            smoothed = 0.9 * (c == right) + 0.1 / C
            focus = (1 - p[c]) ** 1 if c == right else p[c] ** 4
            loss = loss - smoothed * focus * p[c].log()
        losses.append(loss)
    return torch.stack(losses)


def _polynomials(d: _Data) -> Iterator[Row]:
    ours = poly.poly_softmax_terms(d.z, d.hard, 2.0).sum(1)
    yield _row(
        "poly", "CE + ε (1 - p_t)", ours, F.cross_entropy(d.z, d.classes, reduction="none") + 2 * (1 - d.p_t)
    )
    ours = poly.poly_softmax_terms(d.z, d.soft, 2.0).sum(1)
    theirs = F.cross_entropy(d.z, d.soft, reduction="none") + 2 * (d.soft * (1 - d.p)).sum(1)
    yield _row("poly", "CE + ε Σ y (1 - p), soft targets", ours, theirs)
    theirs = (1 - d.p_t) ** 2 * -d.p_t.log() + 2 * (1 - d.p_t) ** 3
    ours = poly.poly_softmax_terms(d.z, d.hard, 2.0, focal_gamma=2.0).sum(1)
    yield _row("poly", "focal loss + ε (1 - p_t)^(γ + 1)", ours, theirs)
    theirs = _either(d.several, 2 * (1 - d.s) - d.s.log(), 2 * d.s - (1 - d.s).log())
    yield _row("poly", "BCE + ε (1 - p_t)", poly.poly_sigmoid_terms(d.z, d.several, 2.0).sum(1), theirs)


def _for_noise(d: _Data) -> Iterator[Row]:
    gce, sce = generalized_cross_entropy, symmetric_cross_entropy
    ours = gce.gce_softmax_terms(d.z, d.hard, 0.7).sum(1)
    yield _row("generalized_cross_entropy", "(1 - p_t^q) / q", ours, (1 - d.p_t**0.7) / 0.7)
    theirs = torch.where(d.p_t > 0.3, (1 - d.p_t**0.7) / 0.7, (1 - 0.3**0.7) / 0.7)
    ours = gce.gce_softmax_terms(d.z, d.hard, 0.7, truncation=0.3).sum(1)
    yield _row("generalized_cross_entropy", "the paper's truncated loss", ours, theirs)
    theirs = _either(d.several, (1 - d.s**0.7) / 0.7, (1 - (1 - d.s) ** 0.7) / 0.7)
    ours = gce.gce_sigmoid_terms(d.z, d.several, 0.7).sum(1)
    yield _row("generalized_cross_entropy", "(1 - p_t^q) / q of each label", ours, theirs)
    t = 0.6 * torch.eye(C, dtype=torch.float64) + 0.4 / C
    ours = forward_correction.forward_terms(d.z, d.hard, t).sum(1)
    yield _row("forward_correction", "the paper's -log (Tᵀ p)_y", ours, -(d.p @ t)[d.hard == 1].log())
    log_y = torch.where(d.hard == 1, 0.0, -4.0).double()
    theirs = 0.1 * F.cross_entropy(d.z, d.classes, reduction="none") - (d.p * log_y).sum(1)
    ours = sce.sce_softmax_terms(d.z, d.hard, 0.1, 1.0).sum(1)
    yield _row("symmetric_cross_entropy", "α CE + β RCE with log 0 = -4", ours, theirs)
    theirs = _either(d.several, -0.1 * d.s.log() + 4 * (1 - d.s), -0.1 * (1 - d.s).log() + 4 * d.s)
    ours = sce.sce_sigmoid_terms(d.z, d.several, 0.1, 1.0).sum(1)
    yield _row("symmetric_cross_entropy", "α CE + β RCE of each label's coin", ours, theirs)


def _for_long_tails(d: _Data) -> Iterator[Row]:
    counts, tau = [500, 120, 60, 30, 8, 2], 1.3
    share = [(n / sum(counts)) ** tau for n in counts]
    moved = d.z.exp() * torch.tensor(share, dtype=torch.float64)
    theirs = -(moved[torch.arange(B), d.classes] / moved.sum(1)).log()
    ours = logit_adjusted.logit_adjusted_terms(d.z, d.hard, tau * logit_adjusted.log_prior(counts)).sum(1)
    yield _row("logit_adjusted", "-log of π_y^τ e^z_y / Σ π_c^τ e^z_c", ours, theirs)
    yield _row(
        "distribution_balanced",
        "the paper's formula, label by label",
        _balanced(d, counts),
        _balanced_by_hand(d, counts),
    )


def _balanced(d: _Data, counts: list[int]) -> Tensor:
    n = torch.tensor(counts, dtype=torch.float64)
    weights = distribution_balanced.rebalanced_weights(d.several, n, 0.1, 10.0, 0.2)
    offsets = distribution_balanced.label_offsets(counts, 800, 0.05)
    return weights * distribution_balanced.negative_tolerant_terms(d.z, d.several, offsets, 2.0)


def _balanced_by_hand(d: _Data, counts: list[int]) -> Tensor:
    found = torch.zeros(B, C, dtype=torch.float64)
    for b in range(B):
        y = d.several[b].tolist()
        shown = sum(1 / n for n, holds in zip(counts, y, strict=True) if holds)
        for c, n in enumerate(counts):
            r = (1 / n) / shown if shown else math.inf
            weight = 0.1 + (1 / (1 + math.exp(-10 * (r - 0.2))) if shown else 1.0)
            low = float(d.z[b, c]) - 0.05 * math.log(800 / n - 1)
            term = math.log1p(math.exp(-low)) if y[c] else math.log1p(math.exp(2 * low)) / 2
            found[b, c] = weight * term / C
    return found


def _of_features(d: _Data) -> Iterator[Row]:
    contrast = supervised_contrastive.supervised_contrastive
    for words, targets in (("one label", d.hard), ("several labels", d.several)):
        ours = contrast(d.features, targets, d.weights, 0.2)
        yield _row("supervised_contrastive", f"the paper's sums, row by row, {words}", ours,
                   contrast_by_hand(d.features, targets, d.weights, 0.2))  # fmt: skip


def contrast_by_hand(features: Tensor, targets: Tensor, weights: Tensor, temperature: float) -> Tensor:
    """The supervised contrastive loss as three nested loops."""
    unit = features / features.norm(dim=1, keepdim=True)
    total, counted = features.new_zeros(()), 0.0
    for i in range(len(unit)):
        others = [k for k in range(len(unit)) if k != i]
        every = torch.stack([(unit[i] @ unit[k] / temperature).exp() for k in others]).sum()
        for c in range(targets.shape[1]):
            partners = [j for j in others if targets[i, c] == 1 and targets[j, c] == 1]
            if partners:
                logs = [((unit[i] @ unit[j] / temperature).exp() / every).log() for j in partners]
                total = total - weights[i] * torch.stack(logs).mean()
                counted += float(weights[i])
    return total / counted

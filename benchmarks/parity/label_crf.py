"""The label CRF against brute force over all sets, and torch's derivatives, in float64."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor

from etude.parts.label_crf import log_partition, set_logits
from etude.techniques.heads.label_crf import exact_terms, pseudo_terms


def rows() -> Iterator[tuple[str, str, float]]:
    """Yield technique, reference, and the largest absolute difference in float64."""
    for n_labels in (2, 6, 10):
        logits, pairwise = _field(n_labels)
        scores, sets = _by_brute_force(logits, pairwise)
        log_z = scores.logsumexp(dim=1)
        told = f"all {len(sets)} sets of {n_labels} labels, one by one"
        yield "label_crf", f"log Z: {told}", _apart(log_partition(logits, pairwise), log_z)
        marginals = (scores - log_z[:, None]).exp() @ sets
        yield (
            "label_crf",
            f"marginals: {told}",
            _apart(torch.sigmoid(set_logits(logits, pairwise)), marginals),
        )
        best = torch.stack(
            [
                scores[:, sets[:, c] == 1].amax(dim=1) - scores[:, sets[:, c] == 0].amax(dim=1)
                for c in range(n_labels)
            ],
            dim=1,
        )
        found = set_logits(logits, pairwise, torch.amax)
        yield "label_crf", f"best sets with and without a label: {told}", _apart(found, best)
    yield "label_crf", "marginals: autograd's derivative of log Z", _by_derivative()
    yield "label_crf", "pseudo-likelihood: exact loss of one label given the others", _pseudo()


def _field(n_labels: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(n_labels)
    half = torch.randn(n_labels, n_labels, generator=generator, dtype=torch.float64).tril(-1)
    return 2 * torch.randn(3, n_labels, generator=generator, dtype=torch.float64), half + half.T


def _by_brute_force(logits: Tensor, pairwise: Tensor) -> tuple[Tensor, Tensor]:
    sets = torch.tensor(list(itertools.product((0.0, 1.0), repeat=logits.shape[1])), dtype=torch.float64)
    columns = []
    for labels in sets:
        held = labels.nonzero().flatten().tolist()
        pairs = sum((pairwise[c, d] for c, d in itertools.combinations(held, 2)), start=torch.zeros(()))
        columns.append(logits[:, held].sum(dim=1) + pairs)
    return torch.stack(columns, dim=1), sets


def _by_derivative() -> float:
    logits, pairwise = _field(12)
    logits.requires_grad_()
    (slope,) = torch.autograd.grad(log_partition(logits, pairwise).sum(), logits)
    return _apart(torch.sigmoid(set_logits(logits.detach(), pairwise)), slope)


def _pseudo() -> float:
    logits, pairwise = _field(5)
    targets = (logits > 0).double()
    expected = []
    for c in range(5):
        # With all other labels held, the field is one label with what they add.
        single = logits[:, c : c + 1] + targets @ pairwise[:, c : c + 1]
        expected.append(
            exact_terms(single, torch.zeros(1, 1, dtype=torch.float64), targets[:, c : c + 1]) / 5
        )
    return _apart(pseudo_terms(logits, pairwise, targets), torch.cat(expected, dim=1))


def _apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())

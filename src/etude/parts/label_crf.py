"""A conditional random field over a set of labels: every pair of labels attracts or repels.

Legend: B examples, C labels, S = 2^C sets of labels. A set is numbered by its bits: set s holds label
c where bit c of s is 1.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor, nn

from etude.parts.base import LabelLayer

MAX_EXACT = 16
"""Up to so many labels all 2^C sets are counted."""

_STATES = 1 << 22
"""Scores of sets that are in memory at one time; more examples than these allow go chunk by chunk."""

_SWEEPS = 20
"""Passes over the labels of the approximate inference, which mostly settles within five."""


class LabelCRF(LabelLayer):
    """Pairwise potentials over the labels of one example.

    Args:
        n_classes: C.
        decode: ``marginal`` for each label's own probability, ``map`` for the likeliest set.
    """

    name = "label_crf"
    from_zero: ClassVar[frozenset[str]] = frozenset({"pairwise"})

    def __init__(self, n_classes: int, decode: str) -> None:
        super().__init__(n_classes=n_classes, decode=decode)
        self.decode = decode
        self.pairwise = nn.Parameter(torch.zeros(n_classes, n_classes))

    @property
    def potentials(self) -> Tensor:
        """(C, C) symmetric with a zero diagonal; only the triangle under the diagonal is a parameter."""
        lower = self.pairwise.tril(-1)
        return lower + lower.T

    def infer(self, logits: Tensor) -> Tensor:
        """Map single potentials (B, C) to logits of marginals, or of the likeliest set."""
        pairwise = self.potentials.to(logits.dtype)
        if logits.shape[1] > MAX_EXACT:
            marginals = mean_field_logits(logits, pairwise)
            return marginals if self.decode == "marginal" else climb(logits, pairwise, marginals)
        reduce = torch.logsumexp if self.decode == "marginal" else torch.amax
        rows = max(1, _STATES >> logits.shape[1])
        return torch.cat([set_logits(part, pairwise, reduce) for part in logits.split(rows)])


@lru_cache(maxsize=8)
def all_sets(n_labels: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return every set of labels as a row of zeros and ones: (2^C, C).

    >>> all_sets(2, torch.float32, torch.device("cpu")).tolist()
    [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
    """
    # The table is kept for training, even where prediction has asked for it first.
    with torch.inference_mode(mode=False):
        numbers = torch.arange(1 << n_labels, device=device)[:, None]
        return ((numbers >> torch.arange(n_labels, device=device)) & 1).to(dtype)


def set_scores(logits: Tensor, pairwise: Tensor) -> Tensor:
    """Return the score of every set of labels: Σ_c u_c y_c + Σ_{c<d} W_cd y_c y_d.

    Args:
        logits: (B, C) single potentials u.
        pairwise: (C, C) symmetric potentials W with a zero diagonal.

    Returns:
        (B, 2^C).

    >>> set_scores(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 0.5], [0.5, 0.0]]))
    tensor([[0.0000, 1.0000, 2.0000, 3.5000]])
    """
    sets = all_sets(logits.shape[1], logits.dtype, logits.device)
    of_pairs = ((sets @ pairwise.tril(-1)) * sets).sum(dim=1)
    return torch.addmm(of_pairs, logits, sets.T)


def log_partition(logits: Tensor, pairwise: Tensor) -> Tensor:
    """Return log Z (B,), exactly, over all 2^C sets; arguments as for :func:`set_scores`.

    >>> log_partition(torch.zeros(1, 2), torch.zeros(2, 2))
    tensor([1.3863])
    """
    return set_scores(logits, pairwise).logsumexp(dim=1)


def set_logits(logits: Tensor, pairwise: Tensor, reduce: Callable[..., Tensor] = torch.logsumexp) -> Tensor:
    """Return what speaks for each label against it, over all sets of the others.

    Args:
        logits: (B, C) single potentials.
        pairwise: (C, C) symmetric potentials with a zero diagonal.
        reduce: ``torch.logsumexp``, for the log-odds of the marginals; or ``torch.amax``, for the best set
            with the label against the best without it, whose signs are the likeliest set.

    Returns:
        (B, C).

    >>> set_logits(torch.zeros(1, 2), torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    tensor([[0.6201, 0.6201]])
    """
    n, n_classes = logits.shape
    scores = set_scores(logits, pairwise)
    found = []
    for c in range(n_classes):
        without, held = reduce(scores.view(n, -1, 2, 1 << c), dim=(1, 3)).unbind(dim=1)
        found.append(held - without)
    return torch.stack(found, dim=1)


def conditional_logits(logits: Tensor, pairwise: Tensor, labels: Tensor) -> Tensor:
    """Return each label's log-odds given all other labels: u_c + Σ_d W_cd y_d.

    >>> conditional_logits(torch.zeros(1, 2), torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.ones(1, 2))
    tensor([[1., 1.]])
    """
    return logits + labels @ pairwise


def mean_field_logits(logits: Tensor, pairwise: Tensor, sweeps: int = _SWEEPS) -> Tensor:
    """Return log-odds of approximate marginals q that are independent of each other.

    Label after label gets q_c = σ(u_c + Σ_d W_cd q_d); each such step brings q closer to the field, or
    leaves it, in the sense of KL(q ‖ p).

    >>> mean_field_logits(torch.zeros(1, 2), torch.zeros(2, 2))
    tensor([[0., 0.]])
    """
    q = torch.sigmoid(logits)
    found = logits.clone()
    for _ in range(sweeps):
        for c in range(logits.shape[1]):
            found[:, c] = logits[:, c] + q @ pairwise[c]
            q[:, c] = torch.sigmoid(found[:, c])
    return found


def climb(logits: Tensor, pairwise: Tensor, start: Tensor, sweeps: int = _SWEEPS) -> Tensor:
    """Return the log-odds given all others of a set that no single label improves.

    Begun at the signs of ``start`` (B, C); each change of a label raises the score of the set.

    >>> climb(torch.tensor([[-1.0, 2.0]]), torch.tensor([[0.0, 3.0], [3.0, 0.0]]), torch.zeros(1, 2))
    tensor([[2., 5.]])
    """
    labels = (start >= 0).to(logits.dtype)
    for _ in range(sweeps):
        before = labels.clone()
        for c in range(logits.shape[1]):
            labels[:, c] = (logits[:, c] + labels @ pairwise[c] >= 0).to(logits.dtype)
        if torch.equal(before, labels):
            break
    return conditional_logits(logits, pairwise, labels)

"""A chain of labels: each may depend on those before it."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from etude.parts.base import LabelLayer


class ClassifierChain(LabelLayer):
    """Weights of every earlier label in every later one.

    Args:
        order: the labels' columns in the order of the chain, a permutation of 0 to C - 1.
        feed: what is handed on in prediction, the ``decision`` on a label or its ``probability``.
    """

    name = "classifier_chain"
    from_zero: ClassVar[frozenset[str]] = frozenset({"weights"})

    def __init__(self, order: list[int], feed: str) -> None:
        super().__init__(order=list(order), feed=feed)
        self.order, self.feed = list(order), feed
        self.weights = nn.Parameter(torch.zeros(len(order), len(order)))

    @property
    def dependence(self) -> Tensor:
        """(C, C): row c holds the weights of the labels before c in the chain, and zeros."""
        place = torch.tensor(self.order, device=self.weights.device).argsort()
        earlier = place[None, :] < place[:, None]
        return self.weights * earlier.to(self.weights)

    def infer(self, logits: Tensor) -> Tensor:
        """Map a head's logits (B, C) to those of the chain, label after label."""
        return follow_chain(
            logits, self.dependence.to(logits.dtype), self.order, hard=self.feed == "decision"
        )


def chain_logits(logits: Tensor, dependence: Tensor, labels: Tensor) -> Tensor:
    """Return the logits given the true earlier labels: z_c + Σ_d U_cd y_d.

    Args:
        logits: (B, C) the head's.
        dependence: (C, C), zero but for labels d before c in the chain.
        labels: (B, C) in [0, 1].

    >>> chain_logits(torch.zeros(1, 2), torch.tensor([[0.0, 0.0], [3.0, 0.0]]), torch.ones(1, 2))
    tensor([[0., 3.]])
    """
    return logits + labels @ dependence.T


def follow_chain(logits: Tensor, dependence: Tensor, order: list[int], *, hard: bool) -> Tensor:
    """Return the logits given what was predicted for the earlier labels.

    Args:
        logits: (B, C) the head's.
        dependence: (C, C), zero but for labels d before c in the chain.
        order: the columns in the order of the chain.
        hard: hand on the decision at 0.5, and else the probability.

    >>> dependence = torch.tensor([[0.0, 0.0], [3.0, 0.0]])
    >>> follow_chain(torch.tensor([[1.0, -1.0]]), dependence, [0, 1], hard=True)
    tensor([[1., 2.]])
    """
    found, said = torch.zeros_like(logits), torch.zeros_like(logits)
    for c in order:
        found[:, c] = logits[:, c] + said @ dependence[c]
        said[:, c] = (found[:, c] >= 0).to(logits.dtype) if hard else torch.sigmoid(found[:, c])
    return found

"""Cross-entropy: the loss of a softmax over classes that exclude each other.

Idea: the negative log-likelihood of the right class. With soft targets it is the expected one, and
because it is linear in the targets, label smoothing, mixup and pseudo-labels need nothing special.

Formula, with logits z (B, C), p = softmax(z) and targets y (B, C) whose rows sum to one:

* terms (B, C): l_bc = -y_bc log p_bc; an example's loss is the sum over its classes

Paper: Bridle 1990, Probabilistic interpretation of feedforward classification network outputs
(softmax with the log-likelihood as its loss).

When it helps: whenever each example has exactly one label; the default for binary and multiclass
tasks, and what every other loss should be measured against.
When not: several labels may hold at once (bce), or no label may hold.

Suggested values: nothing to set.

Cost: 1 pass; one (B, C) tensor of memory.

Clashes: none; multilabel tasks are refused, because their targets do not sum to one.

NOTE[DIFF]: torch's ``cross_entropy(weight=...)`` divides by the total class weight of the batch, so a
rare class in a batch makes all of its other rows count less. Here class weights multiply the terms
and the divisor stays the total example weight, whichever classes a batch happens to hold.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from etude.core.backbone import Output
from etude.core.batch import Batch
from etude.core.phases import LOSS
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import SINGLE_LABEL, Facts, Technique, TechniqueConfig


class CrossEntropyConfig(TechniqueConfig):
    """Cross-entropy has no settings."""

    name: Literal["cross_entropy"] = "cross_entropy"


def cross_entropy_terms(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the terms ``-y log softmax(z)``, stable for logits of any size.

    Args:
        logits: (B, C).
        targets: (B, C), hard or soft, each row summing to one.

    Returns:
        (B, C) terms, in the logits' precision; the sum over C is the example's loss.

    >>> import torch
    >>> terms = cross_entropy_terms(torch.tensor([[0.0, 0.0, 1000.0]]), torch.tensor([[0.0, 1.0, 0.0]]))
    >>> terms.sum(dim=1)
    tensor([1000.])
    """
    return -targets * logits.log_softmax(dim=-1)


class CrossEntropy(Technique[CrossEntropyConfig]):
    """The loss of single-label tasks."""

    Config = CrossEntropyConfig
    facts = Facts(family="losses", phase=LOSS, paper="Bridle 1990", tasks=SINGLE_LABEL)

    def attach(self, plan: Plan) -> None:
        def loss(output: Output, batch: Batch, moment: Moment) -> Tensor:
            return cross_entropy_terms(output.logits, batch.targets)

        plan.add(LOSS, loss)

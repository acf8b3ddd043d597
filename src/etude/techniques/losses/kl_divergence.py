"""KL divergence: how far the predicted distribution is from a soft label.

Idea: where annotators disagree or a label is a distribution, even a perfect model has a cross-entropy
above zero: the entropy of the label. The KL divergence takes it off, so that zero means perfect, and
losses of rows with clear and with unclear labels can be compared.

Formula, with logits z (B, C) and targets y (B, C), as terms (B, C) with 0 log 0 = 0:

* one label for each example, p = softmax(z), rows of y sum to one: l_bc = y_bc (log y_bc - log p_bc)
* any subset of labels, p = σ(z):
  l_bc = [y_bc log(y_bc / p_bc) + (1 - y_bc) log((1 - y_bc) / (1 - p_bc))] / C

Paper: Kullback & Leibler 1951, On information and sufficiency; with soft labels from annotators:
Peterson et al. 2019 (1908.07086).

When it helps: labels that are shares of votes, or probabilities of another model; together with a
filter by loss, which with cross-entropy would take unclear labels for hard ones.
When not: hard labels, for which it is cross_entropy or bce to the last bit.

Suggested values: nothing to set.

Cost: 1 pass; two (B, C) tensors of memory.

Clashes: none.

NOTE[DIFF]: gradients are those of cross_entropy or bce with the same targets, since the label's entropy
does not depend on the model. Single terms of one label may be negative; their sum over C never is.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from etude.core.backbone import Output
from etude.core.batch import Batch
from etude.core.phases import LOSS
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Facts, Technique, TechniqueConfig


class KLDivergenceConfig(TechniqueConfig):
    """The KL divergence has no settings."""

    name: Literal["kl_divergence"] = "kl_divergence"


def kl_softmax_terms(logits: Tensor, targets: Tensor) -> Tensor:
    """Return ``y (log y - log softmax(z))``, with 0 where y is 0.

    Args:
        logits: (B, C).
        targets: (B, C), hard or soft, each row summing to one.

    Returns:
        (B, C) terms, in the logits' precision; their sum over C is 0 for a perfect prediction.

    >>> terms = kl_softmax_terms(torch.zeros(2, 2), torch.tensor([[0.5, 0.5], [1.0, 0.0]]))
    >>> terms.sum(dim=1)
    tensor([0.0000, 0.6931])
    """
    return torch.xlogy(targets, targets) - targets * logits.log_softmax(dim=-1)


def kl_sigmoid_terms(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the KL divergence between each label's two outcomes, divided by C.

    Args:
        logits: (B, C).
        targets: (B, C) in [0, 1].

    >>> kl_sigmoid_terms(torch.zeros(1, 2), torch.tensor([[0.5, 1.0]]))
    tensor([[0.0000, 0.3466]])
    """
    absent = 1.0 - targets
    known = torch.xlogy(targets, targets) + torch.xlogy(absent, absent)
    return (known - (targets * logsigmoid(logits) + absent * logsigmoid(-logits))) / logits.shape[-1]


class KLDivergence(Technique[KLDivergenceConfig]):
    """The loss of soft labels; the task chooses between its two forms."""

    Config = KLDivergenceConfig
    facts = Facts(
        family="losses",
        phase=LOSS,
        paper="Kullback & Leibler 1951; Peterson et al. 2019, arXiv 1908.07086",
    )

    def attach(self, plan: Plan) -> None:
        terms = kl_sigmoid_terms if plan.context.task.kind == "multilabel" else kl_softmax_terms

        def loss(output: Output, batch: Batch, moment: Moment) -> Tensor:
            return terms(output.logits, batch.targets)

        plan.add(LOSS, loss)

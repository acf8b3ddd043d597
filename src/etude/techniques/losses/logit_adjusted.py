"""Logit-adjusted loss: add the log frequency of each class while training, and leave it off afterwards.

Idea: a softmax learns how frequent the classes are together with how they look. If the frequency is
given to it as an offset, the logits need to learn only the looks, and what they predict without the
offset treats all classes as equally frequent.

Formula, with logits z (B, C), targets y (B, C) and n_c of N training rows in class c, as terms (B, C):

* π_c = n_c / N
* l_bc = -y_bc log softmax(z_b + τ log π)_c; predictions are softmax(z)

Paper: Menon et al. 2021 (2007.07314), section 5.

When it helps: classes of very unequal size, and a score that treats them alike (balanced accuracy, macro
F1): the loss is consistent for the balanced error, which class weights are not.
When not: accuracy on data as unbalanced as the training part is the score; probabilities must fit the
frequencies of the data (add τ log π again, or fit a calibration after training).

Suggested values: τ = 1, from 0.5 to 2.

Cost: 1 pass; one (B, C) tensor of memory.

Clashes: class_weights, weighted_sampling, undersample and oversample: each corrects the same
imbalance once more, and samplers change the frequencies that τ log π stands for.

NOTE[DIFF]: multilabel tasks are refused: the paper's argument is about classes that exclude each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from numpy.typing import NDArray
from torch import Tensor

from etude.config.fields import SearchRange, setting
from etude.core.backbone import Output
from etude.core.batch import Batch
from etude.core.phases import LOSS
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import SINGLE_LABEL, Facts, Technique, TechniqueConfig
from etude.errors import ConfigError

_TWICE = "both correct the same imbalance, twice over; remove one of them"
_MOVED = (
    "it changes the classes' frequencies, which the loss adds as they are in the data; remove one of them"
)


class LogitAdjustedConfig(TechniqueConfig):
    """Settings of the logit-adjusted loss."""

    name: Literal["logit_adjusted"] = "logit_adjusted"
    tau: float = setting(
        1.0,
        help="share of the log frequency that is added; 0 is cross-entropy",
        ge=0.0,
        le=10.0,
        search=SearchRange(0.5, 2.0),
    )


def log_prior(class_counts: NDArray[Any] | Sequence[int]) -> Tensor:
    """Return ``log(n_c / N)`` of each class, (C,) in float64.

    Raises:
        ValueError: a class has no rows, so that its log frequency is infinite.

    >>> log_prior([1, 1, 2])
    tensor([-1.3863, -1.3863, -0.6931], dtype=torch.float64)
    """
    counts = torch.as_tensor(class_counts, dtype=torch.float64)
    for c, count in enumerate(counts.tolist()):
        if count <= 0:
            raise ValueError(f"class {c} has {count:.0f} rows and needs at least one")
    return (counts / counts.sum()).log()


def logit_adjusted_terms(logits: Tensor, targets: Tensor, offset: Tensor) -> Tensor:
    """Return ``-y log softmax(z + offset)``.

    Args:
        logits: (B, C).
        targets: (B, C), hard or soft, each row summing to one.
        offset: (C,), τ log π.

    Returns:
        (B, C) terms, in the logits' precision; the sum over C is the example's loss.

    >>> offset = log_prior([1, 3]).float()
    >>> logit_adjusted_terms(torch.zeros(2, 2), torch.eye(2), offset).sum(dim=1)
    tensor([1.3863, 0.2877])
    """
    return -targets * (logits + offset).log_softmax(dim=-1)


class LogitAdjusted(Technique[LogitAdjustedConfig]):
    """Cross-entropy that is told the frequencies of the classes."""

    Config = LogitAdjustedConfig
    facts = Facts(
        family="losses",
        phase=LOSS,
        paper="Menon et al. 2021, arXiv 2007.07314",
        tasks=SINGLE_LABEL,
        clashes={
            "class_weights": _TWICE,
            "weighted_sampling": _MOVED,
            "undersample": _MOVED,
            "oversample": _MOVED,
        },
    )

    def attach(self, plan: Plan) -> None:
        try:
            offset = self.config.tau * log_prior(plan.context.class_counts)
        except ValueError as error:
            raise ConfigError(f"logit_adjusted: {error}; remove the class, or use cross_entropy") from None

        def loss(output: Output, batch: Batch, moment: Moment) -> Tensor:
            return logit_adjusted_terms(output.logits, batch.targets, offset.to(output.logits))

        plan.add(LOSS, loss)

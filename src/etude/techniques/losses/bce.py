"""Binary cross-entropy: each label is a yes-or-no question of its own.

Idea: one sigmoid for each label. Labels may hold together or not at all, and no label's probability
has to shrink for another's to grow. On single-label tasks this is one-versus-all training.

Formula, with logits z (B, C), p = σ(z), targets y (B, C) in [0, 1] and positive weights v (C,):

* terms (B, C): l_bc = -[v_c y_bc log p_bc + (1 - y_bc) log(1 - p_bc)] / C
* v_c = 1 ("none"), (N - n_c) / n_c ("balanced": n_c of N rows hold label c), or numbers of your own

Paper: Cox 1958 (the likelihood of logistic regression); one-versus-all for single-label tasks:
Wightman et al. 2021 (2110.00476).

When it helps: multilabel tasks, where it is the default; single-label tasks with mixed or smoothed
targets, or where "none of these" must be possible.
When not: clean single-label tasks, where cross_entropy knows that one label excludes the others.
pos_weight moves every probability upwards; where only decisions matter, lower the threshold instead.

Suggested values: pos_weight = "none" first; "balanced" where rare labels are never predicted.

Cost: 1 pass; two (B, C) tensors of memory.

Clashes: none; pos_weight together with class_weights counts rarity twice, so use one of the two.

NOTE[DIFF]: the mean over labels is inside the terms, as torch's default reduction has it; Wightman et
al. sum over classes, which is the same with a learning rate C times as large (for SGD).
NOTE[DIFF]: on single-label tasks saved probabilities are still the softmax of the logits.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from torch.nn.functional import logsigmoid

from etude.config.fields import setting
from etude.core.backbone import Output
from etude.core.batch import Batch
from etude.core.phases import LOSS
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Context, Facts, Technique, TechniqueConfig
from etude.errors import ConfigError

PositiveWeight = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


class BCEConfig(TechniqueConfig):
    """Settings of binary cross-entropy."""

    name: Literal["bce"] = "bce"
    pos_weight: Literal["none", "balanced"] | list[PositiveWeight] = setting(
        "none", help="weight of each label's positives: none, balanced, or one number for each label"
    )


def bce_terms(logits: Tensor, targets: Tensor, pos_weight: Tensor | None = None) -> Tensor:
    """Return the terms of binary cross-entropy divided by C, stable for logits of any size.

    Args:
        logits: (B, C).
        targets: (B, C) in [0, 1].
        pos_weight: (C,) factors of the positive part, or ``None`` for ones.

    Returns:
        (B, C) terms, in the logits' precision; the sum over C is the example's mean over labels.

    >>> bce_terms(torch.tensor([[0.0, -200.0]]), torch.tensor([[1.0, 1.0]]))
    tensor([[  0.3466, 100.0000]])
    """
    positive = targets * logsigmoid(logits)
    if pos_weight is not None:
        positive = pos_weight * positive
    return -(positive + (1.0 - targets) * logsigmoid(-logits)) / logits.shape[-1]


def balanced_pos_weight(class_counts: NDArray[Any], n_rows: int) -> Tensor:
    """Return (N - n_c) / n_c, with which positives and negatives of each label weigh the same.

    Raises:
        ValueError: a label holds in no row or in all rows, so that there is nothing to balance.

    >>> import numpy as np
    >>> balanced_pos_weight(np.array([10, 50]), 100)
    tensor([9., 1.])
    """
    counts = torch.as_tensor(class_counts, dtype=torch.float64)
    for c, count in enumerate(counts.tolist()):
        if count in (0, n_rows):
            raise ValueError(f"label {c} holds in {count:.0f} of {n_rows} rows; there is nothing to balance")
    return ((n_rows - counts) / counts).float()


def _pos_weight(chosen: str | list[float], context: Context) -> Tensor | None:
    if chosen == "none":
        return None
    if chosen == "balanced":
        try:
            return balanced_pos_weight(context.class_counts, context.n_rows)
        except ValueError as error:
            raise ConfigError(f'bce: pos_weight = "balanced": {error}; use pos_weight = "none"') from None
    if len(chosen) != context.task.n_classes:
        raise ConfigError(
            f"bce: pos_weight has {len(chosen)} numbers and the task has {context.task.n_classes} labels; "
            "give one number for each label, in the order of the labels"
        )
    return torch.tensor(chosen)


class BCE(Technique[BCEConfig]):
    """The loss of multilabel tasks, and one-versus-all on single-label ones."""

    Config = BCEConfig
    facts = Facts(family="losses", phase=LOSS, paper="Cox 1958; Wightman et al. 2021, arXiv 2110.00476")

    def attach(self, plan: Plan) -> None:
        pos_weight = _pos_weight(self.config.pos_weight, plan.context)

        def loss(output: Output, batch: Batch, moment: Moment) -> Tensor:
            weight = None if pos_weight is None else pos_weight.to(output.logits)
            return bce_terms(output.logits, batch.targets, weight)

        plan.add(LOSS, loss)

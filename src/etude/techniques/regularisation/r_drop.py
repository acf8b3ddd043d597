"""R-Drop: two passes with other dropout masks, which must say the same.

Idea: dropout trains many thinned networks and evaluation uses the whole one. If any two thinned networks
agree on every example, the gap between training and evaluation closes.

Formula, with the logits z¹ and z² (B, C) of two passes, p = softmax(z) or sigmoid(z), for each example:

* loss: ½ (ℓ(z¹, y) + ℓ(z², y)) + α R
* one label for each example: R = ½ (KL(p¹ ‖ p²) + KL(p² ‖ p¹)) = ½ Σ_c (p¹_c - p²_c)(log p¹_c - log p²_c)
* any subset of labels: the same for each label's own coin, summed over labels and divided by C; then
  R = ½ · 1/C Σ_c (p¹_c - p²_c)(z¹_c - z²_c)

Paper: Liang et al. 2021 (2106.14448), equations 2 to 4.

When it helps: fine-tuning pretrained models on little data; long runs with much dropout.
When not: without dropout, where it does nothing; where training time is short.

Suggested values: α = 1, from 0.1 to 1 for understanding text, 5 for translation; dropout 0.1 to 0.3.

Cost: 2 passes, and memory for two: both passes are one of twice the rows.

Clashes: label_crf, whose logits are no probabilities yet in training. With distillation the teacher is
compared with the first pass only.

NOTE[DIFF]: equation 4 adds the two losses, this takes their mean, as the authors' published example
does; α then weighs twice as much as in the equation. What else draws in a pass (NEFTune's noise, layers
left out) is the same in both.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from etude.config.fields import SearchRange, setting
from etude.core.backbone import Output
from etude.core.batch import Batch
from etude.core.phases import EXTRA_LOSS, FORWARD, ExtraLoss, ModelCall
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Facts, Technique, TechniqueConfig

OUTERMOST = -100
"""Its rank among those that wrap the model's call: what stands inside then sees all rows twice."""


class RDropConfig(TechniqueConfig):
    """Settings of R-Drop."""

    name: Literal["r_drop"] = "r_drop"
    alpha: float = setting(
        1.0, help="weight of the disagreement", ge=0.0, le=100.0, search=SearchRange(0.1, 5.0, "log")
    )


def softmax_disagreement(one: Tensor, other: Tensor) -> Tensor:
    """Return the terms of ½ (KL(p ‖ q) + KL(q ‖ p)) between softmax distributions.

    Args:
        one: (B, C) logits of p.
        other: (B, C) logits of q.

    Returns:
        (B, C), 0 or more each.

    >>> softmax_disagreement(torch.tensor([[0.0, 2.0]]), torch.zeros(1, 2)).sum()
    tensor(0.3808)
    """
    log_p, log_q = one.log_softmax(dim=-1), other.log_softmax(dim=-1)
    return (log_p.exp() - log_q.exp()) * (log_p - log_q) / 2


def sigmoid_disagreement(one: Tensor, other: Tensor) -> Tensor:
    """Return the same for each label's own coin, divided by C; arguments as above.

    >>> sigmoid_disagreement(torch.tensor([[2.0]]), torch.zeros(1, 1))
    tensor([[0.3808]])
    """
    return (one.sigmoid() - other.sigmoid()) * (one - other) / (2 * one.shape[-1])


def doubled(batch: Batch) -> Batch:
    """Return the batch with every row twice: all rows, then all of them again."""
    return Batch(
        {name: torch.cat([value, value]) for name, value in batch.inputs.items()},
        torch.cat([batch.targets, batch.targets]),
        torch.cat([batch.weights, batch.weights]),
        torch.cat([batch.index, batch.index]),
    )


def halves(output: Output) -> Output:
    """Return the output of the first half of the rows, and the second half's as its second pass."""
    n = len(output.logits) // 2
    again = Output(output.logits[n:], output.features[n:], tuple(layer[n:] for layer in output.hidden))
    return Output(output.logits[:n], output.features[:n], tuple(h[:n] for h in output.hidden), again)


class RDrop(Technique[RDropConfig]):
    """Runs each batch twice at once, and adds the disagreement to the loss."""

    Config = RDropConfig
    facts = Facts(
        family="regularisation",
        phase=FORWARD,
        paper="Liang et al. 2021, arXiv 2106.14448",
        passes=2.0,
        needs=frozenset({"dropout"}),
        clashes={
            "label_crf": "in training its logits are potentials and no probabilities that two passes could "
            "disagree on; remove one of them"
        },
        neutral={"alpha": 0.0},
    )

    def attach(self, plan: Plan) -> None:
        alpha = self.config.alpha
        if alpha == 0.0:
            return
        disagreement = (
            sigmoid_disagreement if plan.context.task.kind == "multilabel" else softmax_disagreement
        )

        def forward(call: ModelCall, batch: Batch, moment: Moment) -> Output:
            # One call of twice the rows: their masks differ by row, and processes meet only once.
            return halves(call(doubled(batch)))

        def terms(output: Output, batch: Batch, moment: Moment) -> Tensor:
            if output.again is None:
                raise RuntimeError("r_drop found one pass where its own call gives two")
            return disagreement(output.logits, output.again.logits)

        plan.add(FORWARD, forward, rank=OUTERMOST)
        plan.add(EXTRA_LOSS, ExtraLoss(terms, weight=alpha))

"""Focal loss: turn down what the model already gets right.

Idea: most of a long training's loss comes from many easy terms. A factor (1 - p)^γ makes a term that
is already probable count little, so that the hard ones steer.

Formula, with logits z (B, C) and targets y (B, C), as terms (B, C):

* one label for each example, p = softmax(z): l_bc = -y_bc (1 - p_bc)^γ log p_bc
* any subset of labels, p = σ(z): l_bc = -[y_bc (1 - p_bc)^γ log p_bc + (1 - y_bc) p_bc^γ log(1 - p_bc)] / C
* with one α: positives times α and negatives times 1 - α, on multilabel and binary tasks (whose second
  label is the positive one)
* with α_c for each label: the terms of class c times α_c; on multilabel tasks α_c y + (1 - α_c)(1 - y)

Paper: Lin et al. 2017 (1708.02002), equations 4 and 5; γ = 0 is cross_entropy, or bce.

When it helps: many easy negatives for each positive, as in multilabel tasks with rare labels.
When not: small clean data (it throws gradient away); where probabilities matter, since it makes them
too low for sure cases. It often does no better than bce followed by calibration.

Suggested values: γ = 2, from 0.5 to 5; α = 0.25 with γ = 2 in the paper, absent first. A list of α like
class weights (inverse frequencies) is the paper's section 3.1.

Cost: 1 pass; three (B, C) tensors of memory.

Clashes: none; α and class_weights both answer rarity, so use one of the two.

NOTE[DIFF]: the modulating factor belongs to each class's term, not to exp(-loss) of the example. For
hard targets both are the same; with soft targets only this form is linear in y, and with class
weights only this form keeps the weight out of p.
NOTE[DIFF]: no division by the number of positives (the paper's anchors); terms are averaged as in bce.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import logsigmoid

from etude.config.fields import SearchRange, setting
from etude.core.backbone import Output
from etude.core.batch import Batch
from etude.core.phases import LOSS
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.task import Task
from etude.core.technique import Facts, Technique, TechniqueConfig
from etude.errors import ConfigError

Share = Annotated[float, Field(gt=0.0, lt=1.0)]
ClassWeight = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


class FocalConfig(TechniqueConfig):
    """Settings of the focal loss."""

    name: Literal["focal"] = "focal"
    gamma: float = setting(
        2.0, help="focusing exponent γ; 0 is the plain loss", ge=0.0, le=10.0, search=SearchRange(0.5, 5.0)
    )
    alpha: Share | list[ClassWeight] | None = setting(
        None, help="weight α of positives against 1 - α of negatives, or one number for each label"
    )


def focal_softmax_terms(logits: Tensor, targets: Tensor, gamma: float, alpha: Tensor | None = None) -> Tensor:
    """Return ``-α y (1 - p)^γ log p`` with p the softmax of the logits.

    Args:
        logits: (B, C).
        targets: (B, C), hard or soft, each row summing to one.
        gamma: γ, 0 or more.
        alpha: (C,) factors of the classes, or ``None`` for ones.

    >>> focal_softmax_terms(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]), 2.0)
    tensor([[0.1733, 0.0000]])
    """
    log_p = logits.log_softmax(dim=-1)
    # 1 - p rounds to 0 for a sure example, where the power has no finite gradient if γ < 1.
    miss = (-log_p.expm1()).clamp_min(torch.finfo(log_p.dtype).tiny)
    terms = -targets * miss.pow(gamma) * log_p
    return terms if alpha is None else alpha * terms


def focal_sigmoid_terms(
    logits: Tensor, targets: Tensor, gamma: float, alpha: float | Tensor | None = None
) -> Tensor:
    """Return ``-[y (1 - p)^γ log p + (1 - y) p^γ log(1 - p)] / C`` with p the sigmoid of the logits.

    Args:
        logits: (B, C).
        targets: (B, C) in [0, 1].
        gamma: γ, 0 or more.
        alpha: factor of the positive part, 1 - alpha being the negative part's: a number, (C,) numbers,
            or ``None`` for neither.

    >>> focal_sigmoid_terms(torch.zeros(1, 1), torch.ones(1, 1), 2.0, alpha=0.25)
    tensor([[0.0433]])
    """
    log_p, log_q = logsigmoid(logits), logsigmoid(-logits)
    positive = targets * (gamma * log_q).exp() * log_p
    negative = (1.0 - targets) * (gamma * log_p).exp() * log_q
    if alpha is not None:
        positive, negative = alpha * positive, (1.0 - alpha) * negative
    return -(positive + negative) / logits.shape[-1]


def _alpha(chosen: float | list[float] | None, task: Task) -> Tensor | None:
    """The factors (C,) of the labels' terms, or of their positive parts on multilabel tasks."""
    if chosen is None:
        return None
    if isinstance(chosen, list):
        if len(chosen) != task.n_classes:
            raise ConfigError(
                f"focal: alpha has {len(chosen)} numbers and the task has {task.n_classes} labels; "
                "give one number for each label, in the order of the labels"
            )
        if task.kind == "multilabel" and max(chosen) > 1.0:
            raise ConfigError(
                f"focal: alpha holds {max(chosen):g}, and on a multilabel task negatives weigh 1 - alpha; "
                "give numbers from 0 to 1"
            )
        return torch.tensor(chosen)
    if task.kind == "multilabel":
        return torch.full((task.n_classes,), chosen)
    if task.kind == "binary":
        return torch.tensor([1.0 - chosen, chosen])
    raise ConfigError(
        f"focal: alpha = {chosen} weighs positives against negatives, which a {task.kind} task does not "
        "have; give one number for each label, or remove alpha and use class_weights"
    )


class Focal(Technique[FocalConfig]):
    """The loss of hard cases; the task chooses between its two forms."""

    Config = FocalConfig
    facts = Facts(family="losses", phase=LOSS, paper="Lin et al. 2017, arXiv 1708.02002")

    def attach(self, plan: Plan) -> None:
        gamma, task = self.config.gamma, plan.context.task
        alpha = _alpha(self.config.alpha, task)
        terms = focal_sigmoid_terms if task.kind == "multilabel" else focal_softmax_terms

        def loss(output: Output, batch: Batch, moment: Moment) -> Tensor:
            logits = output.logits
            return terms(logits, batch.targets, gamma, None if alpha is None else alpha.to(logits))

        plan.add(LOSS, loss)

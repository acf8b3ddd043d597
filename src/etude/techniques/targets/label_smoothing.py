"""Label smoothing: train towards probabilities a little short of zero and one.

Idea: a target of exactly one asks for infinite logits. Moving a share ε of the target's mass to all
classes keeps the logits finite, and usually the model better calibrated.

Formula, with targets y (B, C) in [0, 1]:

* one label for each example: y' = (1 - ε) y + ε / C
* any subset of labels: y'_c = (1 - ε) y_c + ε / 2, each label being a two-class problem

Paper: Szegedy et al. 2016 (1512.00567), section 7; when it helps: Müller et al. 2019 (1906.02629).

When it helps: fine-tuning with clean or slightly noisy labels; with mixup as well.
When not: training a teacher for distillation (its soft targets lose information, Müller et al. 2019,
section 4; 2010.16402), and pre-training.

Suggested values: ε = 0.1, from 0.05 to 0.2.

Cost: 1 pass; no memory.

Clashes: none by itself; filters that need hard targets refuse it.

NOTE[DIFF]: the multilabel form is not in the paper; it is the two-class case applied to each label.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from etude.config.fields import SearchRange, setting
from etude.core.phases import SOFTEN
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Facts, Technique, TechniqueConfig


class LabelSmoothingConfig(TechniqueConfig):
    """Settings of label smoothing."""

    name: Literal["label_smoothing"] = "label_smoothing"
    smoothing: float = setting(
        0.1, help="share of the mass moved to all classes", ge=0.0, lt=1.0, search=SearchRange(0.0, 0.2)
    )


def smooth(targets: Tensor, smoothing: float, n_outcomes: int) -> Tensor:
    """Return ``(1 - smoothing) * targets + smoothing / n_outcomes``.

    Args:
        targets: (B, C) in [0, 1].
        smoothing: ε in [0, 1).
        n_outcomes: C where each row sums to one, 2 where each label is a problem of its own.

    Raises:
        ValueError: ``smoothing`` is out of [0, 1).

    >>> import torch
    >>> smooth(torch.tensor([[0.0, 1.0, 0.0, 0.0]]), 0.2, 4)
    tensor([[0.0500, 0.8500, 0.0500, 0.0500]])
    """
    if not 0.0 <= smoothing < 1.0:
        raise ValueError(f"smoothing is {smoothing} and must lie in [0, 1)")
    return targets * (1.0 - smoothing) + smoothing / n_outcomes


class LabelSmoothing(Technique[LabelSmoothingConfig]):
    """Softens the targets of a step."""

    Config = LabelSmoothingConfig
    facts = Facts(
        family="targets",
        phase=SOFTEN,
        paper="Szegedy et al. 2016, arXiv 1512.00567",
        produces_soft_targets=True,
        neutral={"smoothing": 0.0},
    )

    def attach(self, plan: Plan) -> None:
        epsilon = self.config.smoothing
        if epsilon == 0.0:
            return
        task = plan.context.task
        n_outcomes = 2 if task.kind == "multilabel" else task.n_classes

        def soften(targets: Tensor, moment: Moment) -> Tensor:
            return smooth(targets, epsilon, n_outcomes)

        plan.add(SOFTEN, soften)

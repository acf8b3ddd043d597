"""Mixup: train on weighted sums of two examples' inputs and of their targets.

Idea: between two examples the model shall answer between their labels. It then changes its mind along a
straight line instead of somewhere at random, and is less sure of what it has not seen.

Formula, with λ ~ Beta(α, α), partner j of example i drawn without replacement, inputs x (B, ...) of real
numbers and targets y (B, C):

* x'_i = λ x_i + (1 - λ) x_j
* y'_i = λ y_i + (1 - λ) y_j

Paper: Zhang et al. 2018 (1710.09412), section 1 and figure 1a; with one-vs-all losses: Wightman et
al. 2021 (2110.00476).

When it helps: images and tables of numbers; little data, noisy labels, many epochs.
When not: underfitting; few epochs; tables whose columns are categories, or numbers whose mean is none.

Suggested values: α = 0.2 for images, from 0.1 to 0.4; 1 for small images and in long runs.

Cost: 1 pass; no memory. Features of a frozen backbone can no longer be cached.

Clashes: another technique that mixes; losses, filters and teachers that need hard targets or one example;
inputs that are no real numbers: use hidden_mixup, or cutmix for columns.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from etude.config.fields import SearchRange, setting
from etude.core.batch import Batch
from etude.core.phases import MIX
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Facts, Technique, TechniqueConfig
from etude.errors import ConflictError


class MixupConfig(TechniqueConfig):
    """Settings of mixup."""

    name: Literal["mixup"] = "mixup"
    alpha: float = setting(
        0.2, help="both parameters of the beta distribution", ge=0.0, search=SearchRange(0.05, 2.0, "log")
    )
    per_example: bool = setting(False, help="draw λ for each example instead of once a batch")


def mix_rows(values: Tensor, partners: Tensor, lam: Tensor) -> Tensor:
    """Return ``lam * values + (1 - lam) * values[partners]``.

    Args:
        values: (B, ...) of real numbers.
        partners: (B,) positions.
        lam: (B,) in [0, 1].

    Raises:
        ValueError: ``lam`` has not one number for each row.

    >>> rows = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> mix_rows(rows, torch.tensor([1, 0]), torch.tensor([0.75, 1.0]))
    tensor([[0.7500, 0.2500],
            [0.0000, 1.0000]])
    """
    if lam.shape != values.shape[:1]:
        raise ValueError(f"lam has shape {tuple(lam.shape)} and must have ({len(values)},)")
    lam = lam.to(values.dtype).view(-1, *[1] * (values.ndim - 1))
    return lam * values + (1 - lam) * values[partners]


class Mixup(Technique[MixupConfig]):
    """Mixes the inputs and the targets of a step's examples."""

    Config = MixupConfig
    facts = Facts(
        family="mixing",
        phase=MIX,
        paper="Zhang et al. 2018, arXiv 1710.09412",
        needs=frozenset({"mixable"}),
        produces_soft_targets=True,
        changes_inputs=True,
        neutral={"alpha": 0.0},
    )

    def attach(self, plan: Plan) -> None:
        alpha, per_example = self.config.alpha, self.config.per_example
        if alpha == 0.0:
            return
        mixable = plan.context.backbone.mixable

        def mix(batch: Batch, moment: Moment) -> Batch:
            others = sorted(set(batch.inputs) - set(mixable))
            if others:
                raise ConflictError(
                    f"mixup adds numbers and the inputs hold '{others[0]}' as well, which cannot be added; "
                    "use hidden_mixup or cutmix"
                )
            generator, n = moment.numpy("mixup"), len(batch)
            partners = torch.from_numpy(generator.permutation(n))
            drawn = generator.beta(alpha, alpha, size=n if per_example else 1)
            lam = torch.from_numpy(drawn).expand(n)
            inputs = {name: mix_rows(value, partners, lam) for name, value in batch.inputs.items()}
            return batch.replace(inputs=inputs, targets=mix_rows(batch.targets, partners, lam))

        plan.add(MIX, mix)

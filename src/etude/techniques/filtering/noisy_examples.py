"""Noisy examples: leave the hardest share of each batch out, as likely wrong labels.

Idea: networks learn clean rows first, so that after a while the rows with the highest losses are those
whose labels are wrong. Leaving them out keeps the network from learning the errors by heart.

Formula, with losses l (B,) in falling order l_1 ≥ l_2 ≥ …, share s and weights w (B,) of 0 for the
first k examples and 1 for the rest:

* by = "count": k = min(round(s · B), B - 1)
* by = "mass": k = the largest number with l_1 + … + l_k ≤ s · Σ l, at most B - 1
* before the time ``after`` nothing is left out: early losses say nothing of the labels
* the core divides by the weight that is left, so the step's loss is the mean over the kept examples

Paper: Shen & Sanghavi 2019 (1810.11874), algorithm 1; Han et al. 2018 (1804.06872), section 3, on
waiting until clean rows are learnt.

When it helps: a few per cent of wrong labels, spread over all classes.
When not: rare classes, whose examples have high losses and are the first to go; clean labels (it
drops what is left to learn); small batches.

Suggested values: by count, the rate of wrong labels or a little more; after = "1ep".

Cost: 1 pass; with micro-batches one more forward pass, because the ranking needs the whole batch.

Clashes: hard_examples, which keeps what this one drops; mixup, cutmix and hidden_mixup, where a mixed
example's loss is high because it is mixed and says nothing of its label.

NOTE[DIFF]: the first paper ranks the whole training set between rounds of training; here examples
compete within the macro-batch, over all its micro-batches and devices, and ties go to the earlier row.
The share of the mass is not in the papers.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from etude.config.fields import SearchRange, Time, setting
from etude.core.batch import Batch
from etude.core.phases import WEIGH_EXAMPLE
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Facts, Technique, TechniqueConfig

_MIXED = "the loss of a mixed example is high because it is mixed, not because its label is wrong; remove one"


class NoisyExamplesConfig(TechniqueConfig):
    """Settings of the filter against wrong labels."""

    name: Literal["noisy_examples"] = "noisy_examples"
    share: float = setting(
        0.1, help="share of the batch that is left out", ge=0.0, lt=1.0, search=SearchRange(0.0, 0.3)
    )
    by: Literal["count", "mass"] = setting(
        "count", help="whether it is a share of the examples or of the sum of their losses"
    )
    after: Time = setting(Time(1, "ep"), help="when it begins, as '1ep', '500st' or '0.3dur'")


def drop_hardest(losses: Tensor, share: float, by: Literal["count", "mass"]) -> Tensor:
    """Return weights of zero for the examples with the highest losses and one for the rest.

    Args:
        losses: (B,), one for each example, 0 or more.
        share: in [0, 1); at least one example is kept.
        by: ``"count"`` for a share of the examples, ``"mass"`` for a share of the losses' sum.

    Returns:
        (B,) weights in the losses' precision; among equal losses the earlier example is dropped.

    Raises:
        ValueError: ``share`` is out of [0, 1).

    >>> drop_hardest(torch.tensor([0.1, 2.0, 0.7, 0.7]), 0.5, "count")
    tensor([1., 0., 0., 1.])
    >>> drop_hardest(torch.tensor([0.1, 2.0, 0.7, 0.7]), 0.6, "mass")
    tensor([1., 0., 1., 1.])
    """
    if not 0.0 <= share < 1.0:
        raise ValueError(f"share is {share} and must lie in [0, 1)")
    ranked = losses.sort(descending=True, stable=True)
    place = torch.arange(len(losses), device=losses.device)
    if by == "count":
        kept = place >= min(round(share * len(losses)), len(losses) - 1)
    else:
        mass = ranked.values.cumsum(0)
        kept = (mass > share * mass[-1]) | (place == len(losses) - 1)
    return torch.zeros_like(losses).index_put((ranked.indices,), kept.to(losses.dtype))


class NoisyExamples(Technique[NoisyExamplesConfig]):
    """Leaves examples of a step out by the rank of their loss."""

    Config = NoisyExamplesConfig
    facts = Facts(
        family="filtering",
        phase=WEIGH_EXAMPLE,
        paper="Shen & Sanghavi 2019, arXiv 1810.11874; Han et al. 2018, arXiv 1804.06872",
        clashes={
            "hard_examples": "one drops what the other keeps; remove one of them",
            "mixup": _MIXED,
            "cutmix": _MIXED,
            "hidden_mixup": _MIXED,
        },
        neutral={"share": 0.0},
    )

    def attach(self, plan: Plan) -> None:
        share, by = self.config.share, self.config.by
        if share == 0.0:
            return
        begin = plan.context.steps(self.config.after)

        def weigh(losses: Tensor, batch: Batch, moment: Moment) -> Tensor:
            return drop_hardest(losses, share, by) if moment.step >= begin else torch.ones_like(losses)

        plan.add(WEIGH_EXAMPLE, weigh)

"""Hard examples: learn from the hardest share of each batch.

Idea: rank the examples of a batch by their loss, and keep the highest losses, so that the step is
spent on what is not learnt yet.

Formula, with losses l (B,) in falling order l_1 ≥ l_2 ≥ …, share s and weights w (B,) of 1 for the
first k examples and 0 for the rest:

* by = "count": k = max(1, round(s · B))
* by = "mass": k = the smallest number with l_1 + … + l_k ≥ s · Σ l, so that few rows are kept where few
  hold most of the loss
* the core divides by the weight that is left, so the step's loss is the mean over the kept examples

Paper: Shrivastava et al. 2016 (1604.03540), section 4.

When it helps: late in training, on clean, large and mostly easy data.
When not: noisy labels, which have high losses and would be all that is learnt (drop them with
noisy_examples); small batches.

Suggested values: by count, a share of 0.5 to 0.75; by mass, 0.8 to 0.95.

Cost: 1 pass; with micro-batches one more forward pass, because the ranking needs the whole batch.

Clashes: noisy_examples, which drops what this one keeps; mixup, cutmix and hidden_mixup, where a
mixed example's loss is high because it is mixed and says nothing of how hard it is. Label smoothing
raises all losses alike and is harmless.

NOTE[DIFF]: the paper ranks the regions of an image with overlap suppression; here examples compete
within the macro-batch, over all its micro-batches and devices, and ties go to the earlier row. The
share of the mass is not in the paper.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from etude.config.fields import SearchRange, setting
from etude.core.batch import Batch
from etude.core.phases import WEIGH_EXAMPLE
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Facts, Technique, TechniqueConfig

_MIXED = "the loss of a mixed example is high because it is mixed, not because it is hard; remove one of them"


class HardExamplesConfig(TechniqueConfig):
    """Settings of the filter by loss."""

    name: Literal["hard_examples"] = "hard_examples"
    share: float = setting(
        0.75, help="share of the batch that is kept", gt=0.0, le=1.0, search=SearchRange(0.25, 1.0)
    )
    by: Literal["count", "mass"] = setting(
        "count", help="whether it is a share of the examples or of the sum of their losses"
    )


def keep_hardest(losses: Tensor, share: float, by: Literal["count", "mass"]) -> Tensor:
    """Return weights of one for the examples with the highest losses and zero for the rest.

    Args:
        losses: (B,), one for each example, 0 or more.
        share: in (0, 1]; at least one example is kept.
        by: ``"count"`` for a share of the examples, ``"mass"`` for a share of the losses' sum.

    Returns:
        (B,) weights in the losses' precision; among equal losses the earlier example is kept.

    Raises:
        ValueError: ``share`` is out of (0, 1].

    >>> keep_hardest(torch.tensor([0.1, 2.0, 0.7, 0.7]), 0.5, "count")
    tensor([0., 1., 1., 0.])
    >>> keep_hardest(torch.tensor([0.1, 2.0, 0.7, 0.7]), 0.5, "mass")
    tensor([0., 1., 0., 0.])
    """
    if not 0.0 < share <= 1.0:
        raise ValueError(f"share is {share} and must lie in (0, 1]")
    ranked = losses.sort(descending=True, stable=True)
    place = torch.arange(len(losses), device=losses.device)
    if by == "count":
        kept = place < max(1, round(share * len(losses)))
    else:
        # An example is kept where those before it have not yet reached the share.
        mass = ranked.values.cumsum(0)
        before = torch.cat([torch.zeros_like(mass[:1]), mass[:-1]])
        kept = (before < share * mass[-1]) | (place == 0)
    return torch.zeros_like(losses).index_put((ranked.indices,), kept.to(losses.dtype))


class HardExamples(Technique[HardExamplesConfig]):
    """Weighs the examples of a step by the rank of their loss."""

    Config = HardExamplesConfig
    facts = Facts(
        family="filtering",
        phase=WEIGH_EXAMPLE,
        paper="Shrivastava et al. 2016, arXiv 1604.03540",
        clashes={"mixup": _MIXED, "cutmix": _MIXED, "hidden_mixup": _MIXED},
        neutral={"share": 1.0},
    )

    def attach(self, plan: Plan) -> None:
        share, by = self.config.share, self.config.by
        if share == 1.0:
            return

        def weigh(losses: Tensor, batch: Batch, moment: Moment) -> Tensor:
            return keep_hardest(losses, share, by)

        plan.add(WEIGH_EXAMPLE, weigh)

"""Hard examples: learn from the hardest share of each batch, or drop it as noise.

Idea: rank the examples of a batch by their loss. Keeping the highest losses spends the step on what
is not learnt yet; keeping the lowest ones trusts that the highest belong to wrong labels.

Formula, with losses l (B,) and k = max(1, round(share · B)):

* weights (B,): w_b = 1 for the k highest (or lowest) losses and 0 for the rest
* the core divides by the weight that is left, so the step's loss is the mean over the kept examples

Paper: hardest: Shrivastava et al. 2016 (1604.03540), section 4; easiest: Shen & Sanghavi 2019
(1810.11874), algorithm 1.

When it helps: "hardest" late in training on clean, large, easy data; "easiest" with a few per cent
of wrong labels.
When not: "hardest" with noisy labels (it trains on the noise); "easiest" with rare classes (their
examples have high losses and are the first to go); either with small batches.

Suggested values: hardest: share 0.5 to 0.75; easiest: share 1 minus the rate of wrong labels.

Cost: 1 pass; with micro-batches one more forward pass, because the ranking needs the whole batch.

Clashes: mixup and hidden_mixup, where a mixed example's loss is high because it is mixed and says
nothing of how hard it is. Label smoothing raises all losses alike and is harmless.

NOTE[DIFF]: the paper ranks the regions of an image with overlap suppression; here examples compete
within the macro-batch, over all its micro-batches and devices, and ties go to the earlier row.
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
    keep: Literal["hardest", "easiest"] = setting("hardest", help="which end of the losses is kept")
    share: float = setting(
        0.75, help="share of the batch that is kept", gt=0.0, le=1.0, search=SearchRange(0.25, 1.0)
    )


def keep_share(losses: Tensor, share: float, keep: Literal["hardest", "easiest"]) -> Tensor:
    """Return weights of one for the kept share of the losses and zero for the rest.

    Args:
        losses: (B,), one for each example.
        share: in (0, 1]; at least one example is kept.
        keep: ``"hardest"`` for the highest losses, ``"easiest"`` for the lowest.

    Returns:
        (B,) weights in the losses' precision; among equal losses the earlier example is kept.

    Raises:
        ValueError: ``share`` is out of (0, 1].

    >>> keep_share(torch.tensor([0.1, 2.0, 0.7, 0.7]), 0.5, "hardest")
    tensor([0., 1., 1., 0.])
    >>> keep_share(torch.tensor([0.1, 2.0, 0.7, 0.7]), 0.5, "easiest")
    tensor([1., 0., 1., 0.])
    """
    if not 0.0 < share <= 1.0:
        raise ValueError(f"share is {share} and must lie in (0, 1]")
    n_kept = max(1, round(share * len(losses)))
    ranked = losses.sort(descending=keep == "hardest", stable=True).indices
    return torch.zeros_like(losses).index_fill(0, ranked[:n_kept], 1.0)


class HardExamples(Technique[HardExamplesConfig]):
    """Weighs the examples of a step by the rank of their loss."""

    Config = HardExamplesConfig
    facts = Facts(
        family="filtering",
        phase=WEIGH_EXAMPLE,
        paper="Shrivastava et al. 2016, arXiv 1604.03540; Shen & Sanghavi 2019, arXiv 1810.11874",
        clashes={"mixup": _MIXED, "hidden_mixup": _MIXED},
        neutral={"share": 1.0},
    )

    def attach(self, plan: Plan) -> None:
        share, keep = self.config.share, self.config.keep
        if share == 1.0:
            return

        def weigh(losses: Tensor, batch: Batch, moment: Moment) -> Tensor:
            return keep_share(losses, share, keep)

        plan.add(WEIGH_EXAMPLE, weigh)

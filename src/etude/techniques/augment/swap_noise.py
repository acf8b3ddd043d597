"""Swap noise: give some columns of a row the values that they have in other rows.

Idea: a number made up for a column may be none that the column ever takes; another row's is always one.
With a share of the columns wrong, the model has to find the label in the columns together.

Formula, with columns x (B, D), share p, one draw u (B, D) in [0, 1) for each cell and, for each cell
again, a row r (B, D) of the batch that is drawn evenly from the others:
x'_id = x_{r_id, d} where u_id < p, and x_id elsewhere. The targets stay.

Paper: Jahrer 2017, first place of Kaggle's Porto Seguro's Safe Driver Prediction, for denoising
autoencoders; as corruption in pre-training: Bahri et al. 2021 (2106.15147), SCARF.

When it helps: tables with many columns that say the same twice; wide networks that overfit.
When not: few columns, or one that decides alone; columns that are meaningless without each other.

Suggested values: p = 0.15, from 0.05 to 0.3.

Cost: 1 pass; no memory. Features of a frozen backbone can no longer be cached.

Clashes: none; it acts before examples are mixed.

NOTE[DIFF]: the values come from the rows of the step and not from the whole table.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from etude.config.fields import Probability, SearchRange, setting
from etude.core.batch import Batch
from etude.core.phases import AUGMENT
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Facts, Technique, TechniqueConfig


class SwapNoiseConfig(TechniqueConfig):
    """Settings of swap noise."""

    name: Literal["swap_noise"] = "swap_noise"
    share: Probability = setting(
        0.15,
        help="probability that a cell gets the value of another row",
        search=SearchRange(0.0, 0.4),
    )


def swap(columns: Tensor, draws: Tensor, shifts: Tensor, share: float) -> Tensor:
    """Return the columns with the value of another row wherever the draw is below ``share``.

    Args:
        columns: (B, D).
        draws: (B, D) in [0, 1).
        shifts: (B, D) integers; the other row stands that many rows further on, round the end.
        share: p in [0, 1].

    Raises:
        ValueError: ``share`` is out of [0, 1].

    >>> table = torch.tensor([[1, 10], [2, 20], [3, 30]])
    >>> draws = torch.tensor([[0.9, 0.1], [0.0, 0.9], [0.9, 0.9]])
    >>> swap(table, draws, torch.tensor([[1, 2], [1, 1], [1, 1]]), 0.15).tolist()
    [[1, 30], [3, 20], [3, 30]]
    """
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"share is {share} and must lie in [0, 1]")
    own = torch.arange(len(columns))[:, None]
    others = columns.gather(0, (own + shifts) % len(columns))
    return torch.where(draws < share, others, columns)


class SwapNoise(Technique[SwapNoiseConfig]):
    """Swaps cells of the rows of a step."""

    Config = SwapNoiseConfig
    facts = Facts(
        family="augment",
        phase=AUGMENT,
        paper="Jahrer 2017, Kaggle, Porto Seguro; Bahri et al. 2021, arXiv 2106.15147",
        needs=frozenset({"columns"}),
        changes_inputs=True,
        neutral={"share": 0.0},
    )

    def attach(self, plan: Plan) -> None:
        share = self.config.share
        if share == 0.0:
            return

        def augment(batch: Batch, moment: Moment) -> Batch:
            n = len(batch)
            if n == 1:
                return batch
            generator = moment.torch("swap_noise")
            # Numbers and categories alike; by name, since the order of inputs must not decide the draws.
            tables = {
                name: batch.inputs[name] for name in sorted(batch.inputs) if batch.inputs[name].ndim == 2
            }
            changed = {}
            for name, columns in tables.items():
                draws = torch.rand(columns.shape, generator=generator)
                shifts = torch.randint(1, n, columns.shape, generator=generator)
                changed[name] = swap(columns, draws, shifts, share)
            return batch.with_inputs(**changed)

        plan.add(AUGMENT, augment)

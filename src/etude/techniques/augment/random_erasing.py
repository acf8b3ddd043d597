"""Random erasing: cover a random box of an image with noise.

Idea: whatever hides a part of an object hides no label. A model that has seen objects with parts missing
does not lean on a single one of them.

Formula, for each image x (channels, H, W) with probability p: a share s of the area evenly from s_l ... s_h
and a ratio r of the sides from r_1 ... 1 / r_1 make a box of √(s H W r) by √(s H W / r) pixels at an even
place; in it x' is even noise from 0 to 1, and x elsewhere.

Paper: Zhong et al. 2020 (1708.04896), section 4 and algorithm 1; cutout (1708.04552) is its like.

When it helps: photographs, from scratch or fine-tuned, over many epochs.
When not: small objects, which the box may hide whole; digits, of which one may become another.

Suggested values: p = 0.5 with boxes of 0.02 to 0.4 of the area; p = 0.25 and up to 0.2 for fine-tuning.

Cost: 1 pass; no memory. Features of a frozen backbone can no longer be cached.

Clashes: none; it comes after other augmentations, so that the box keeps its edges.

NOTE[DIFF]: ratios are even on a log scale, so that flat boxes are as frequent as high ones; a box that is
higher or wider than the image is cut to it, where the paper draws again.
"""

from __future__ import annotations

import math
from typing import Literal, Self

import torch
from pydantic import model_validator
from torch import Tensor

from etude.config.fields import Probability, SearchRange, setting
from etude.core.batch import Batch
from etude.core.phases import AUGMENT
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Facts, Technique, TechniqueConfig


class RandomErasingConfig(TechniqueConfig):
    """Settings of random erasing."""

    name: Literal["random_erasing"] = "random_erasing"
    probability: Probability = setting(
        0.5, help="probability that an image loses a box", search=SearchRange(0.0, 0.75)
    )
    smallest: float = setting(0.02, help="least share of the area", ge=0.0, le=1.0)
    largest: float = setting(
        0.4, help="greatest share of the area", ge=0.0, le=1.0, search=SearchRange(0.1, 0.5)
    )
    ratio: float = setting(0.3, help="height by width of the flattest box", gt=0.0, le=1.0)

    @model_validator(mode="after")
    def _shares_rise(self) -> Self:
        if self.smallest > self.largest:
            raise ValueError(f"smallest is {self.smallest} and largest {self.largest}; exchange them")
        return self


def boxes(shares: Tensor, ratios: Tensor, places: Tensor, height: int, width: int) -> Tensor:
    """Return which pixels lie in each image's box, (B, 1, H, W) bool.

    Args:
        shares: (B,) of the area, 0 to 1.
        ratios: (B,) of height by width.
        places: (B, 2) in [0, 1), how far down and how far to the right.
        height: H.
        width: W.

    Raises:
        ValueError: a share is out of [0, 1].

    >>> box = boxes(torch.tensor([0.25]), torch.tensor([1.0]), torch.tensor([[0.0, 0.99]]), 4, 4)
    >>> box[0, 0].int()
    tensor([[0, 0, 1, 1],
            [0, 0, 1, 1],
            [0, 0, 0, 0],
            [0, 0, 0, 0]], dtype=torch.int32)
    """
    if bool(((shares < 0) | (shares > 1)).any()):
        raise ValueError(f"shares of the area lie in [0, 1] and one is {shares.tolist()}")
    area = shares * height * width
    inside = []
    for axis, (side, long) in enumerate(((height, area * ratios), (width, area / ratios))):
        size = long.sqrt().round().clamp(max=side).long()
        first = (places[:, axis] * (side - size + 1)).long()
        at = torch.arange(side)
        inside.append((at >= first[:, None]) & (at < (first + size)[:, None]))
    return (inside[0][:, :, None] & inside[1][:, None, :])[:, None]


class RandomErasing(Technique[RandomErasingConfig]):
    """Covers a box of some of the images of a step."""

    Config = RandomErasingConfig
    facts = Facts(
        family="augment",
        phase=AUGMENT,
        paper="Zhong et al. 2020, arXiv 1708.04896",
        needs=frozenset({"pixels"}),
        changes_inputs=True,
        neutral={"probability": 0.0},
    )

    def attach(self, plan: Plan) -> None:
        config = self.config
        if config.probability == 0.0:
            return
        flattest = math.log(config.ratio)

        def augment(batch: Batch, moment: Moment) -> Batch:
            images, draws, n = batch.inputs["pixels"], moment.torch("random_erasing"), len(batch)
            uniform = torch.rand(n, 5, generator=draws)
            shares = config.smallest + (config.largest - config.smallest) * uniform[:, 0]
            ratios = torch.exp(flattest * (2 * uniform[:, 1] - 1))
            box = boxes(shares, ratios, uniform[:, 2:4], images.shape[2], images.shape[3])
            box &= (uniform[:, 4] < config.probability)[:, None, None, None]
            noise = torch.rand(images.shape, generator=draws).to(images.dtype)
            return batch.with_inputs(pixels=torch.where(box, noise, images))

        plan.add(AUGMENT, augment, rank=1)

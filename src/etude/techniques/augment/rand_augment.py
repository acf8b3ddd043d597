"""RandAugment: change every image by a few operations drawn at random, all of one strength.

Idea: which augmentations suit a data set is costly to search. If all are drawn evenly and share one
strength, two numbers are left, and they are found by hand.

Formula, with N operations for each image and the magnitude M of 10: o_1 ... o_N are drawn evenly from the 14
operations (identity, auto contrast, equalize, rotate, solarize, colour, posterize, contrast, brightness,
sharpness, shear and translate in x and y), and x' = o_N(... o_1(x)), each of the strength m = M / 10 of its
greatest one (30 degrees, a shear of 0.3, a shift of 0.45, a change of 0.9, 4 bits) in an even direction.

Paper: Cubuk et al. 2020 (1909.13719), section 3 and algorithm 1.

When it helps: photographs, many epochs, networks with room to spare.
When not: underfitting, few epochs; digits and signs, of which turned or shifted ones are others: keep M low.

Suggested values: N = 2, M = 5; M = 9 for long runs of large networks; N = 1, M = 3 for small ones.

Cost: 1 pass, and about a tenth of a small network's step for the operations. Features of a frozen backbone
can no longer be cached.

Clashes: none; it comes before random_erasing and before examples are mixed.

NOTE[DIFF]: operations are done on all images of a step that drew them at once, by interpolation; the edge is
repeated where an image is moved, in place of black. Which operations there are can be restricted.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from etude.config.fields import SearchRange, setting
from etude.core.batch import Batch
from etude.core.phases import AUGMENT
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Facts, Technique, TechniqueConfig
from etude.techniques._image_operations import OPERATIONS

Name = Literal[
    "identity", "auto_contrast", "equalize", "rotate", "solarize", "colour", "posterize", "contrast",
    "brightness", "sharpness", "shear_x", "shear_y", "translate_x", "translate_y",
]  # fmt: skip
HIGHEST = 10.0


class RandAugmentConfig(TechniqueConfig):
    """Settings of RandAugment."""

    name: Literal["rand_augment"] = "rand_augment"
    n_operations: int = setting(2, help="N, operations for each image", ge=0, le=10, search=SearchRange(1, 3))
    magnitude: float = setting(
        5.0, help="M, their strength", ge=0.0, le=HIGHEST, search=SearchRange(1.0, 9.0)
    )
    operations: Annotated[list[Name], Field(min_length=1)] = setting(
        list(OPERATIONS), help="the operations to draw from"
    )


def changed(images: Tensor, drawn: Tensor, signs: Tensor, names: list[str], m: float) -> Tensor:
    """Return each image changed by the operation that it drew.

    Args:
        images: (B, channels, H, W) from 0 to 1.
        drawn: (B,) positions in ``names``.
        signs: (B,) of 1 or -1.
        names: operations.
        m: their strength, from 0 to 1.

    Raises:
        ValueError: m is out of [0, 1].

    >>> images = torch.tensor([0.25, 0.75]).view(2, 1, 1, 1)
    >>> changed(images, torch.tensor([0, 1]), torch.ones(2), ["identity", "solarize"], 0.5).flatten()
    tensor([0.2500, 0.2500])
    """
    if not 0.0 <= m <= 1.0:
        raise ValueError(f"m is {m} and must lie in [0, 1]")
    found = images.clone()
    for number, name in enumerate(names):
        rows = (drawn == number).nonzero().flatten()
        if len(rows):
            found[rows] = OPERATIONS[name](images[rows], m, signs[rows])
    return found


class RandAugment(Technique[RandAugmentConfig]):
    """Changes each image of a step by operations of its own."""

    Config = RandAugmentConfig
    facts = Facts(
        family="augment",
        phase=AUGMENT,
        paper="Cubuk et al. 2020, arXiv 1909.13719",
        passes=1.1,
        needs=frozenset({"pixels"}),
        changes_inputs=True,
        neutral={"n_operations": 0},
    )

    def attach(self, plan: Plan) -> None:
        n_operations, m = self.config.n_operations, self.config.magnitude / HIGHEST
        names: list[str] = list(self.config.operations)
        if n_operations == 0:
            return

        def augment(batch: Batch, moment: Moment) -> Batch:
            images, draws = batch.inputs["pixels"], moment.torch("rand_augment")
            for _ in range(n_operations):
                drawn = torch.randint(len(names), (len(batch),), generator=draws)
                signs = torch.randint(2, (len(batch),), generator=draws).mul(2).sub(1).to(images.dtype)
                images = changed(images, drawn, signs, names, m)
            return batch.with_inputs(pixels=images)

        plan.add(AUGMENT, augment)

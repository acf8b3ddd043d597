"""Random crop and flip: move every image by a few pixels, and mirror it if that keeps its label.

Idea: an object that stands a little to the left is the same object. Images that are never shown twice in
the same place cannot be learned by heart.

Formula, with an image x (channels, H, W), padding p = round(share · side) on each side, and offsets dy, dx
drawn evenly from -p ... p for each image:

* x'[:, i, j] = x[:, i + dy, j + dx]; beyond an edge stands the pixel of the edge
* with probability f, x' is mirrored from left to right

Paper: He et al. 2016 (1512.03385), section 4.2, for small images; Krizhevsky et al. 2012, NIPS, section 4.1.

When it helps: almost always where images are trained from scratch; the cheapest augmentation there is.
When not: objects whose exact place matters. Mirroring: digits, letters, signs, left and right hands.

Suggested values: padding = 0.125 (4 of 32 pixels), 0.07 (2 of 28) for digits; flip = 0.5 for photographs.

Cost: 1 pass; no memory. Features of a frozen backbone can no longer be cached.

Clashes: none; it comes before other augmentations and before examples are mixed.

NOTE[DIFF]: the papers pad with zeros; here the edge is repeated, which is the same on a black ground and
draws no line into photographs.
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


class RandomCropFlipConfig(TechniqueConfig):
    """Settings of random crops and flips."""

    name: Literal["random_crop_flip"] = "random_crop_flip"
    padding: float = setting(
        0.125, help="furthest shift, as a share of the side", ge=0.0, le=0.5, search=SearchRange(0.0, 0.25)
    )
    flip: Probability = setting(0.0, help="probability that an image is mirrored from left to right")


def shifted(images: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """Return images that begin some rows further down and some columns further to the right.

    Args:
        images: (B, channels, H, W).
        down: (B,) integers, rows; negative ones go up.
        across: (B,) integers, columns.

    Raises:
        ValueError: there is not one offset for each image.

    >>> image = torch.arange(4.0).view(1, 1, 2, 2)
    >>> shifted(image, torch.tensor([1]), torch.tensor([-1])).squeeze()
    tensor([[2., 2.],
            [2., 2.]])
    """
    n, channels, height, width = images.shape
    if down.shape != (n,) or across.shape != (n,):
        raise ValueError(
            f"{n} images were given offsets of shapes {tuple(down.shape)}, {tuple(across.shape)}"
        )
    rows = (torch.arange(height) + down[:, None]).clamp(0, height - 1)
    columns = (torch.arange(width) + across[:, None]).clamp(0, width - 1)
    places = (rows[:, :, None] * width + columns[:, None, :]).view(n, 1, height * width)
    return images.flatten(2).gather(2, places.expand(n, channels, -1)).view_as(images)


class RandomCropFlip(Technique[RandomCropFlipConfig]):
    """Shifts and mirrors each image of a step by draws of its own."""

    Config = RandomCropFlipConfig
    facts = Facts(
        family="augment",
        phase=AUGMENT,
        paper="He et al. 2016, arXiv 1512.03385; Krizhevsky et al. 2012, NIPS",
        needs=frozenset({"pixels"}),
        changes_inputs=True,
        neutral={"padding": 0.0, "flip": 0.0},
    )

    def attach(self, plan: Plan) -> None:
        padding, flip = self.config.padding, self.config.flip
        if padding == 0.0 and flip == 0.0:
            return

        def augment(batch: Batch, moment: Moment) -> Batch:
            images, draws = batch.inputs["pixels"], moment.torch("random_crop_flip")
            offsets = []
            for side in images.shape[2:]:
                most = round(padding * side)
                offsets.append(torch.randint(-most, most + 1, (len(batch),), generator=draws))
            images = shifted(images, *offsets)
            turned = torch.rand(len(batch), 1, 1, 1, generator=draws) < flip
            return batch.with_inputs(pixels=torch.where(turned, images.flip(3), images) if flip else images)

        # In front of what changes single pixels, as papers do it.
        plan.add(AUGMENT, augment, rank=-1)

"""Progressive resizing: begin with small images, and let them grow in stages.

Idea: what an image shows can be told from a small one, at a fraction of the cost. The first part of
training is spent on small images, and the full size then only has to refine what is known.

Formula, with images of H by W pixels, shares s_1 < ... < s_K and the time T they are spread over:

* stage k = 1 ... K lasts T / K; in it images are scaled to round(s_k H) by round(s_k W), smoothed before
* after T images have their full size

Paper: Howard 2018, Training ImageNet in 3 hours for 25 minutes, fast.ai; Tan and Le 2021 (2104.00298),
section 4; what a change of size does to a network: Touvron et al. 2019 (1906.06423).

When it helps: photographs, many epochs, steps whose time goes with the number of pixels.
When not: images of 32 pixels and less, of which little would be left; networks that know one size only.

Suggested values: shares = [0.5, 0.75] over 0.5dur; the learning rate warms up and falls as ever.

Cost: less than 1 pass: a step on images of half the side takes a quarter of the time. Features of a frozen
backbone cannot be cached.

Clashes: backbones with weights for each place of an image (most transformers) are refused.

NOTE[DIFF]: fast.ai crops and changes sizes by a schedule of its own; EfficientNetV2 strengthens the
augmentation with the size. Here the stages are equal and nothing else changes.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from etude.config.fields import Time, setting
from etude.core.batch import Batch
from etude.core.phases import AUGMENT
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Facts, Technique, TechniqueConfig
from etude.errors import ConflictError

Share = Annotated[float, Field(gt=0.0, lt=1.0)]
SMALLEST = 4
"""Pixels of a side, at least."""


class ProgressiveResizingConfig(TechniqueConfig):
    """Settings of growing images."""

    name: Literal["progressive_resizing"] = "progressive_resizing"
    shares: list[Share] = setting([0.5, 0.75], help="side of an image in each stage, as a rising share")
    over: Time = setting(Time(0.5, "dur"), help="length of all stages together, as '2ep' or '0.3dur'")

    @model_validator(mode="after")
    def _shares_rise(self) -> Self:
        if not self.shares or self.shares != sorted(set(self.shares)):
            raise ValueError(f"shares is {self.shares} and must name one share or more, in rising order")
        return self


def resized(images: Tensor, share: float) -> Tensor:
    """Return images (B, channels, H, W) scaled to a share of their sides, by area so that nothing is lost.

    Args:
        images: see above.
        share: above 0 and at most 1; no side becomes shorter than 4 pixels, or than it was.

    Raises:
        ValueError: the share is out of bounds.

    >>> import torch
    >>> images = torch.arange(64.0).view(1, 1, 8, 8)
    >>> resized(images, 0.5).shape, resized(images, 0.5).mean()
    (torch.Size([1, 1, 4, 4]), tensor(31.5000))
    """
    if not 0.0 < share <= 1.0:
        raise ValueError(f"share is {share} and must be above 0 and at most 1")
    size = [min(side, max(round(side * share), SMALLEST)) for side in images.shape[2:]]
    if size == list(images.shape[2:]):
        return images
    return F.interpolate(images, size, mode="bilinear", antialias=True)


class ProgressiveResizing(Technique[ProgressiveResizingConfig]):
    """Makes the images of a step smaller."""

    Config = ProgressiveResizingConfig
    facts = Facts(
        family="curriculum",
        phase=AUGMENT,
        paper="Howard 2018, fast.ai; Tan and Le 2021, arXiv 2104.00298",
        needs=frozenset({"pixels"}),
        changes_inputs=True,
        neutral={"over": "0ep"},
    )

    def attach(self, plan: Plan) -> None:
        shares, end = self.config.shares, plan.context.steps(self.config.over)
        if end == 0:
            return
        backbone = plan.context.backbone
        if not getattr(backbone, "any_size", True):
            raise ConflictError(
                "progressive_resizing needs a network for images of any size and this one knows "
                f"{backbone.fingerprint.removeprefix('images-')} only; remove progressive_resizing"
            )

        def augment(batch: Batch, moment: Moment) -> Batch:
            if moment.step >= end:
                return batch
            share = shares[moment.step * len(shares) // end]
            return batch.with_inputs(pixels=resized(batch.inputs["pixels"], share))

        # Other augmentations then have fewer pixels to change.
        plan.add(AUGMENT, augment, rank=-10)

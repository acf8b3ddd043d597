"""Masked patches: paint what was covered.

Idea: whoever can fill in the covered parts of an image knows how its visible parts belong together.

Formula, with an image x of P patches and share s: round(s P) patches, drawn evenly, get the mean colour. Of
the features h(x̃) a head of two layers paints x̂; the loss is the mean of (x̂ - x)² over the covered pixels, in
standard deviations of each channel.

Paper: He et al. 2022 (2111.06377), section 3, in spirit: there a transformer sees uncovered patches alone.

NOTE[DIFF]: a ConvNet sees the covered image, and one head paints all of it from the features; the share is
0.6 where the paper's is 0.75, since these images are small. Images larger than 32 pixels are painted at 32.

Shapes: B images, C channels, H by W pixels, patches of p by p, targets of T by T', D features.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from etude.backbones.image.model import ImageBackbone
from etude.core.backbone import Backbone
from etude.core.rng import key
from etude.data.load import Data
from etude.pretraining.pretext import Inputs, Objective, Pretext, save_under_fresh_head

COVERED, ORIGINAL = "covered_pixels", "original_pixels"
PATCHES, SIDE = 7, 32
"""Patches along the longer side of an image, and the most pixels that are painted along a side."""

NEAR = 0.5
"""A pixel counts as painted right within half a standard deviation."""


def cover_patches(
    n_images: int, height: int, width: int, patch: int, share: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Draw which pixels are covered: whole patches, equally many in each image.

    Args:
        n_images: B.
        height: H.
        width: W.
        patch: p; patches at the right and at the bottom may be smaller.
        share: of an image's patches, at least one and never all of them.
        rng: the source of all draws.

    Returns:
        (B, H, W), true where a pixel is covered.

    >>> cover_patches(1, 4, 4, 2, 0.5, np.random.default_rng(0))[0].astype(int).tolist()
    [[0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1]]
    """
    rows, columns = math.ceil(height / patch), math.ceil(width / patch)
    n = rows * columns
    chosen = min(max(round(share * n), 1), max(n - 1, 1))
    ranks = rng.random((n_images, n)).argsort(axis=1).argsort(axis=1)
    grid = (ranks < chosen).reshape(n_images, rows, columns)
    return grid.repeat(patch, axis=1).repeat(patch, axis=2)[:, :height, :width]


def painting_losses(painted: Tensor, target: Tensor, covered: Tensor) -> Tensor:
    """Return the summed squared error of each image, its covered pixels and those that are right: (B, 3).

    Args:
        painted: (B, C, T, T'), standardised.
        target: the same of the image.
        covered: (B, T, T') from 0 to 1, how much of a pixel was covered.

    >>> target = torch.zeros(1, 1, 1, 2)
    >>> painting_losses(torch.tensor([[[[2.0, 9.0]]]]), target, torch.tensor([[[1.0, 0.0]]]))
    tensor([[4., 1., 0.]])
    """
    wrong = painted - target
    losses = wrong.square().mean(dim=1) * covered
    right = (wrong.abs() < NEAR).all(dim=1).to(covered.dtype) * covered
    return torch.stack([part.flatten(1).sum(dim=1) for part in (losses, covered, right)], dim=1)


class MaskedPatchesPretext(Pretext):
    """An image backbone under a head that paints."""

    inner: ImageBackbone

    def __init__(self, inner: ImageBackbone, d_head: int, seed: int) -> None:
        channels, height, width = inner.format.shape()
        self._size = (min(height, SIDE), min(width, SIDE))
        n_out = channels * self._size[0] * self._size[1]
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(key(seed, "pretext"))
            head = nn.Sequential(nn.Linear(inner.network.d_out, d_head), nn.ReLU(), nn.Linear(d_head, n_out))
        super().__init__(inner, head)

    def judge(self, layers: tuple[Tensor, ...], inputs: Inputs) -> Tensor:
        original = inputs[ORIGINAL]
        n, channels = original.shape[:2]
        painted = self.head(layers[-1]).float().view(n, channels, *self._size)
        target = (original - self.inner.mean) / self.inner.std
        covered = at_size(inputs[COVERED].to(target.dtype)[:, None], self._size)[:, 0]
        return painting_losses(painted, at_size(target, self._size), covered)

    def save(self, folder: Path, metadata: Mapping[str, Any]) -> None:
        save_under_fresh_head(self.inner, self.inner.network.d_out, folder, metadata)


def at_size(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring images (B, C, H, W) to the size by averaging; those of that size are as they were."""
    return images if tuple(images.shape[2:]) == size else F.adaptive_avg_pool2d(images, size)


class MaskedPatches(Objective):
    """Masked image modelling on an image backbone."""

    name: ClassVar[str] = "masked_patches"
    default_share: ClassVar[float] = 0.6

    def wrap(self, backbone: Backbone, data: Data, seed: int) -> Pretext:
        image = cast("ImageBackbone", backbone)
        self._mean = image.mean.clone()
        self._patch = max(round(max(image.format.height, image.format.width) / PATCHES), 1)
        pretext = MaskedPatchesPretext(image, self.settings.head, seed)
        self._size = pretext._size
        return pretext

    def spoil(self, inputs: Inputs, rng: np.random.Generator) -> tuple[dict[str, Tensor], Tensor]:
        pixels = inputs["pixels"]
        n, _, height, width = pixels.shape
        covered = torch.from_numpy(cover_patches(n, height, width, self._patch, self.share, rng))
        shown = torch.where(covered[:, None], self._mean.to(pixels.dtype), pixels)
        counts = at_size(covered.float()[:, None], self._size).flatten(1).sum(dim=1)
        return {**inputs, "pixels": shown, ORIGINAL: pixels, COVERED: covered}, counts

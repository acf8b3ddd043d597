"""What RandAugment does to images: 14 operations of the strength m from 0 to 1, each for many images.

Images are (B, channels, H, W) from 0 to 1, and signs (B,) of 1 or -1 say in which direction an operation
works that has two. The greatest strengths are those of the papers (1805.09501, table 6; 1909.13719).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

Operation = Callable[[Tensor, float, Tensor], Tensor]
"""(images, m, signs) -> images."""

MOST_DEGREES, MOST_SHEAR, MOST_SHIFT, MOST_CHANGE, MOST_BITS = 30.0, 0.3, 0.45, 0.9, 4
_GREY = (0.299, 0.587, 0.114)


def affine(images: Tensor, matrices: Tensor) -> Tensor:
    """Return images as seen through matrices (B, 2, 3) over coordinates from -1 to 1; edges are repeated.

    >>> image = torch.tensor([[1.0, 2.0], [3.0, 4.0]])[None, None]
    >>> affine(image, torch.tensor([[[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])).squeeze()
    tensor([[2., 1.],
            [4., 3.]])
    """
    grid = F.affine_grid(matrices.to(images.dtype), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _matrices(n: int, changes: Mapping[tuple[int, int], Tensor]) -> Tensor:
    """The identity (n, 2, 3) with some entries (n,) exchanged."""
    found = torch.eye(2, 3).repeat(n, 1, 1)
    for (row, column), value in changes.items():
        found[:, row, column] = value
    return found


def rotate(images: Tensor, m: float, signs: Tensor) -> Tensor:
    """Turn by up to 30 degrees; pixels stay square."""
    angle = signs * math.radians(MOST_DEGREES * m)
    height, width = images.shape[2:]
    cosine, sine = angle.cos(), angle.sin()
    changes = {(0, 0): cosine, (0, 1): -sine * height / width, (1, 0): sine * width / height, (1, 1): cosine}
    return affine(images, _matrices(len(images), changes))


def shear_x(images: Tensor, m: float, signs: Tensor) -> Tensor:
    """Push rows aside, by up to 0.3 pixels a row."""
    return affine(images, _matrices(len(images), {(0, 1): signs * MOST_SHEAR * m}))


def shear_y(images: Tensor, m: float, signs: Tensor) -> Tensor:
    """Push columns up or down, by up to 0.3 pixels a column."""
    return affine(images, _matrices(len(images), {(1, 0): signs * MOST_SHEAR * m}))


def translate_x(images: Tensor, m: float, signs: Tensor) -> Tensor:
    """Move aside, by up to 0.45 of the width."""
    return affine(images, _matrices(len(images), {(0, 2): signs * 2 * MOST_SHIFT * m}))


def translate_y(images: Tensor, m: float, signs: Tensor) -> Tensor:
    """Move up or down, by up to 0.45 of the height."""
    return affine(images, _matrices(len(images), {(1, 2): signs * 2 * MOST_SHIFT * m}))


def blend(images: Tensor, plain: Tensor, m: float, signs: Tensor) -> Tensor:
    """Return plain + (1 ± 0.9 m) (images - plain), kept between 0 and 1.

    >>> blend(torch.full((1, 1, 1, 1), 0.5), torch.zeros(1, 1, 1, 1), 1.0, torch.tensor([-1.0])).squeeze()
    tensor(0.0500)
    """
    factor = (1 + signs * MOST_CHANGE * m).to(images.dtype)[:, None, None, None]
    return (plain + factor * (images - plain)).clamp(0, 1)


def grey(images: Tensor) -> Tensor:
    """Return the brightness (B, 1, H, W) as the eye sees it."""
    if images.shape[1] != len(_GREY):
        return images.mean(dim=1, keepdim=True)
    return (images * torch.tensor(_GREY, dtype=images.dtype)[:, None, None]).sum(dim=1, keepdim=True)


def brightness(images: Tensor, m: float, signs: Tensor) -> Tensor:
    """Blend with black."""
    return blend(images, torch.zeros_like(images), m, signs)


def colour(images: Tensor, m: float, signs: Tensor) -> Tensor:
    """Blend with the grey image."""
    return blend(images, grey(images).expand_as(images), m, signs)


def contrast(images: Tensor, m: float, signs: Tensor) -> Tensor:
    """Blend with the mean grey."""
    return blend(images, grey(images).mean(dim=(2, 3), keepdim=True).expand_as(images), m, signs)


def sharpness(images: Tensor, m: float, signs: Tensor) -> Tensor:
    """Blend with a smoothed image, as Pillow smooths: the pixel counts 5, its eight neighbours 1 each."""
    channels = images.shape[1]
    kernel = torch.ones(3, 3, dtype=images.dtype)
    kernel[1, 1] = 5.0
    kernel = (kernel / 13).expand(channels, 1, 3, 3)
    smooth = F.conv2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), kernel, groups=channels)
    return blend(images, smooth, m, signs)


def solarize(images: Tensor, m: float, signs: Tensor) -> Tensor:
    """Invert what is brighter than 1 - m."""
    return torch.where(images >= 1 - m, 1 - images, images) if m > 0 else images


def posterize(images: Tensor, m: float, signs: Tensor) -> Tensor:
    """Keep the first 8 - 4 m bits of every pixel."""
    step = 2 ** round(MOST_BITS * m)
    return (images.clamp(0, 1) * 255).div(step, rounding_mode="floor") * step / 255 if step > 1 else images


def auto_contrast(images: Tensor, m: float, signs: Tensor) -> Tensor:
    """Stretch each channel from black to white; m means nothing."""
    low, high = images.amin(dim=(2, 3), keepdim=True), images.amax(dim=(2, 3), keepdim=True)
    return torch.where(high > low, (images - low) / (high - low).clamp_min(1e-8), images)


def equalize(images: Tensor, m: float, signs: Tensor) -> Tensor:
    """Make the values of each channel evenly frequent; m means nothing."""
    n, channels, height, width = images.shape
    values = (images.clamp(0, 1) * 255).round().long().view(n * channels, -1)
    counts = torch.zeros(n * channels, 256).scatter_add_(1, values, torch.ones(values.shape))
    below = counts.cumsum(dim=1) - counts  # strictly darker pixels
    lightest = counts[torch.arange(n * channels), values.amax(dim=1)]
    room = (height * width - lightest).clamp_min(1)[:, None]
    found = (below.gather(1, values) / room).to(images.dtype).view_as(images)
    flat = images.amax(dim=(2, 3), keepdim=True) == images.amin(dim=(2, 3), keepdim=True)
    return torch.where(flat, images, found)


def identity(images: Tensor, m: float, signs: Tensor) -> Tensor:
    """Leave the images as they are."""
    return images


OPERATIONS: Mapping[str, Operation] = {
    "identity": identity, "auto_contrast": auto_contrast, "equalize": equalize, "rotate": rotate,
    "solarize": solarize, "colour": colour, "posterize": posterize, "contrast": contrast,
    "brightness": brightness, "sharpness": sharpness, "shear_x": shear_x, "shear_y": shear_y,
    "translate_x": translate_x, "translate_y": translate_y,
}  # fmt: skip

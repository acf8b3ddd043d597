"""CutMix: put a part of another example into each, and mix the targets by the part's exact share.

Idea: mixup's images are ghosts that no camera sees. A box of another image in the place of one's own is
natural at every pixel, and the model learns to find an object by any of its parts. In a table the part
is some of the columns.

Formula, with λ ~ Beta(α, α), partner j of example i drawn without replacement, and targets y (B, C):

* images (B, channels, H, W): a box of ⌊H √(1 - λ)⌋ by ⌊W √(1 - λ)⌋ pixels around an even draw of its
  centre, clipped at the edges: height h and width w are left; share s = h w / (H W)
* tables, D columns in all: k = round((1 - λ) D) columns drawn evenly; s = k / D
* x'_i = x_j in the box or in those columns, x_i elsewhere
* y'_i = (1 - s) y_i + s y_j: by the share that is really there, not by λ

Paper: Yun et al. 2019 (1905.04899), section 3.1 and appendix A.

When it helps: images, from scratch above all; tables with categories, which mixup cannot add.
When not: underfitting; few epochs; images with one small object, which the box may hide.

Suggested values: α = 1, from 0.2 to 1.

Cost: 1 pass; no memory. Features of a frozen backbone can no longer be cached.

Clashes: another technique that mixes; losses, filters and teachers that need hard targets or one example.

NOTE[DIFF]: the form for tables is ours, as the paper knows images only.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from etude.config.fields import SearchRange, setting
from etude.core.batch import Batch
from etude.core.phases import MIX
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Facts, Technique, TechniqueConfig
from etude.errors import ConflictError

Box = tuple[int, int, int, int]


class CutmixConfig(TechniqueConfig):
    """Settings of CutMix."""

    name: Literal["cutmix"] = "cutmix"
    alpha: float = setting(
        1.0, help="both parameters of the beta distribution", ge=0.0, search=SearchRange(0.1, 2.0, "log")
    )


def box_around(height: int, width: int, lam: float, centre: tuple[float, float]) -> Box:
    """Return the box (top, bottom, left, right) of about 1 - λ of an image, clipped at its edges.

    Args:
        height: H.
        width: W.
        lam: λ in [0, 1].
        centre: both draws in [0, 1), as shares of H and W.

    Raises:
        ValueError: λ is out of [0, 1].

    >>> box_around(8, 8, 0.75, (0.5, 0.5))
    (2, 6, 2, 6)
    >>> box_around(8, 8, 0.75, (0.0, 0.95))
    (0, 2, 5, 8)
    """
    if not 0.0 <= lam <= 1.0:
        raise ValueError(f"lam is {lam} and must lie in [0, 1]")
    side = math.sqrt(1.0 - lam)
    edges: list[int] = []
    for size, place in ((height, centre[0]), (width, centre[1])):
        middle, half = int(size * place), int(size * side) // 2
        edges += [max(middle - half, 0), min(middle + half, size)]
    return (edges[0], edges[1], edges[2], edges[3])


def paste(images: Tensor, partners: Tensor, box: Box) -> tuple[Tensor, float]:
    """Return the images with the partners' pixels in the box, and the exact share of the box.

    Args:
        images: (B, channels, H, W).
        partners: (B,) positions.
        box: top, bottom, left, right.

    >>> images = torch.tensor([0.0, 1.0])[:, None, None, None].expand(2, 1, 4, 4)
    >>> mixed, share = paste(images, torch.tensor([1, 0]), (0, 2, 1, 4))
    >>> mixed[0, 0].sum(), share
    (tensor(6.), 0.375)
    """
    top, bottom, left, right = box
    mixed = images.clone()
    mixed[:, :, top:bottom, left:right] = images[partners, :, top:bottom, left:right]
    return mixed, (bottom - top) * (right - left) / (images.shape[2] * images.shape[3])


def exchange(columns: Tensor, partners: Tensor, taken: Tensor) -> Tensor:
    """Return the rows with the partners' values in the columns that are taken.

    Args:
        columns: (B, D).
        partners: (B,) positions.
        taken: (D,) bool.

    >>> table = torch.tensor([[1, 2, 3], [4, 5, 6]])
    >>> exchange(table, torch.tensor([1, 0]), torch.tensor([True, False, False])).tolist()
    [[4, 2, 3], [1, 5, 6]]
    """
    return torch.where(taken, columns[partners], columns)


def cut_images(batch: Batch, partners: Tensor, lam: float, draws: np.random.Generator) -> Batch:
    """Return the batch with one box of every image (B, channels, H, W) exchanged."""
    images = {name: value for name, value in batch.inputs.items() if value.ndim == 4}
    centre, share, changed = (draws.random(), draws.random()), 0.0, {}
    for name, value in images.items():
        box = box_around(value.shape[2], value.shape[3], lam, centre)
        changed[name], share = paste(value, partners, box)
    return _with_mixed_targets(batch.with_inputs(**changed), partners, share)


def cut_columns(batch: Batch, partners: Tensor, lam: float, draws: np.random.Generator) -> Batch:
    """Return the batch with some columns of its tables (B, D) exchanged, numbers and categories alike."""
    tables = {name: batch.inputs[name] for name in sorted(batch.inputs) if batch.inputs[name].ndim == 2}
    widths = [value.shape[1] for value in tables.values()]
    n_taken = round((1.0 - lam) * sum(widths))
    taken = np.isin(np.arange(sum(widths)), draws.permutation(sum(widths))[:n_taken])
    masks = torch.from_numpy(taken).split(widths)
    changed = {
        name: exchange(value, partners, mask)
        for (name, value), mask in zip(tables.items(), masks, strict=True)
    }
    return _with_mixed_targets(batch.with_inputs(**changed), partners, n_taken / sum(widths))


def _with_mixed_targets(batch: Batch, partners: Tensor, share: float) -> Batch:
    return batch.replace(targets=(1.0 - share) * batch.targets + share * batch.targets[partners])


class Cutmix(Technique[CutmixConfig]):
    """Exchanges parts of the step's examples, by the one draw of a box or of columns for all of them."""

    Config = CutmixConfig
    facts = Facts(
        family="mixing",
        phase=MIX,
        paper="Yun et al. 2019, arXiv 1905.04899",
        needs=frozenset({"mixable"}),
        produces_soft_targets=True,
        changes_inputs=True,
        neutral={"alpha": 0.0},
    )

    def attach(self, plan: Plan) -> None:
        alpha, backbone = self.config.alpha, plan.context.backbone
        if alpha == 0.0:
            return
        if not backbone.capabilities & {"pixels", "columns"}:
            raise ConflictError(
                f"cutmix needs a backbone with 'pixels' or 'columns' and {type(backbone).__name__} has "
                "neither; remove cutmix"
            )
        cut = cut_images if "pixels" in backbone.capabilities else cut_columns

        def mix(batch: Batch, moment: Moment) -> Batch:
            draws = moment.numpy("cutmix")
            partners = torch.from_numpy(draws.permutation(len(batch)))
            return cut(batch, partners, float(draws.beta(alpha, alpha)), draws)

        plan.add(MIX, mix)

"""Two networks that are small enough to be trained from nothing on a processor: a ConvNet and a ResNet.

Each maps images (B, C, H, W) to the features of its stages, of which the last are those for the head.
Images of any size may come, so that training can begin on small ones.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from etude.backbones.dropout import DropoutKeys, KeyedDropout
from etude.core.rng import torch_generator

GRID = 4
"""The ConvNet's last maps are averaged in 4 by 4 fields, so that the head sees where something is."""


class Network(nn.Module):
    """What an image backbone needs of a network.

    Attributes:
        d_out: D of the features.
        any_size: whether images of another size than that of training may come.
        settings: what it is made of again, as JSON; ``"model"`` names it.
    """

    d_out: int
    any_size: bool = True
    settings: dict[str, Any]

    @abstractmethod
    def forward(self, images: Tensor, every_stage: bool = False) -> tuple[Tensor, ...]:
        """Map images (B, C, H, W) to features (B, D), those of every stage (B, d) in front if asked for."""

    @abstractmethod
    def blocks(self) -> list[tuple[str, nn.Module]]:
        """Named parts from the input on, which hold every parameter once."""


def norm_of(kind: str, channels: int) -> nn.Module:
    """Return a normalisation layer of its own: BatchNorm, or GroupNorm with groups of 8 channels or one."""
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    return nn.GroupNorm(channels // 8 if channels % 8 == 0 else 1, channels)


def means(maps: Tensor) -> Tensor:
    """Map (B, C, H, W) to the means (B, C) of each map."""
    return maps.mean(dim=(2, 3))


class ConvNet(Network):
    """Two convolutions, each with a norm, ReLU and a maximum over 2 by 2 fields, and a grid of means.

    Args:
        channels: C of the images.
        width: channels of the first convolution; the second has twice as many.
        norm: ``"batch"`` or ``"group"``.
        dropout: rate behind each stage.
        keys: what the dropout draws from.

    >>> net = ConvNet(1, 8, "batch", 0.0, DropoutKeys())
    >>> [tuple(features.shape) for features in net(torch.zeros(2, 1, 28, 28), every_stage=True)]
    [(2, 8), (2, 256)]
    """

    def __init__(self, channels: int, width: int, norm: str, dropout: float, keys: DropoutKeys) -> None:
        super().__init__()
        self.settings = {"model": "convnet", "width": width, "norm": norm, "dropout": dropout}
        self.d_out = 2 * width * GRID * GRID
        self.stem = _conv_stage(channels, width, norm, dropout, keys)
        self.stage = _conv_stage(width, 2 * width, norm, dropout, keys)

    def forward(self, images: Tensor, every_stage: bool = False) -> tuple[Tensor, ...]:
        first = self.stem(images)
        features = F.adaptive_avg_pool2d(self.stage(first), GRID).flatten(1)
        return (means(first), features) if every_stage else (features,)

    def blocks(self) -> list[tuple[str, nn.Module]]:
        return [("stem", self.stem), ("stage", self.stage)]


def _conv_stage(d_in: int, d_out: int, norm: str, dropout: float, keys: DropoutKeys) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(d_in, d_out, 3, padding=1, bias=False),
        norm_of(norm, d_out),
        nn.ReLU(),
        nn.MaxPool2d(2, ceil_mode=True),
        KeyedDropout(dropout, keys),
    )


class ResNet(Network):
    """A small residual network (He et al. 2016, 1512.03385, section 4.2): three stages of basic blocks.

    Args:
        channels: C of the images.
        width: channels of the first stage; the others have two and four times as many.
        depth: blocks of a stage.
        norm: ``"batch"`` or ``"group"``.
        dropout: rate behind each stage.
        large: whether the stem halves the images twice, as for photographs.
        keys: what the dropout draws from.

    >>> net = ResNet(3, 8, 1, "batch", 0.0, False, DropoutKeys())
    >>> [tuple(features.shape) for features in net(torch.zeros(2, 3, 32, 32), every_stage=True)]
    [(2, 8), (2, 8), (2, 16), (2, 32)]
    """

    def __init__(
        self, channels: int, width: int, depth: int, norm: str, dropout: float, large: bool, keys: DropoutKeys
    ) -> None:
        super().__init__()
        self.settings = {"model": "resnet", "width": width, "depth": depth, "norm": norm,
                         "dropout": dropout, "large": large}  # fmt: skip
        self.d_out = 4 * width
        stem = [nn.Conv2d(channels, width, 3, 2 if large else 1, 1, bias=False), norm_of(norm, width)]
        self.stem = nn.Sequential(*stem, nn.ReLU(), nn.MaxPool2d(3, 2, 1) if large else nn.Identity())
        self.stages = nn.ModuleList()
        d_in = width
        for stage in range(3):
            d_out, stride = width * 2**stage, 1 if stage == 0 else 2
            blocks = [BasicBlock(d_in if i == 0 else d_out, d_out, stride if i == 0 else 1, norm)
                      for i in range(depth)]  # fmt: skip
            self.stages.append(nn.Sequential(*blocks, KeyedDropout(dropout, keys)))
            d_in = d_out

    def forward(self, images: Tensor, every_stage: bool = False) -> tuple[Tensor, ...]:
        maps, found = self.stem(images), []
        for stage in self.stages:
            if every_stage:
                found.append(means(maps))
            maps = stage(maps)
        return (*found, means(maps))

    def blocks(self) -> list[tuple[str, nn.Module]]:
        return [("stem", self.stem), *((f"stage.{i}", stage) for i, stage in enumerate(self.stages))]


class BasicBlock(nn.Module):
    """Two convolutions beside a shortcut, which is a convolution of one pixel where the shape changes."""

    def __init__(self, d_in: int, d_out: int, stride: int, norm: str) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(d_in, d_out, 3, stride, 1, bias=False), norm_of(norm, d_out)
        self.conv2, self.norm2 = nn.Conv2d(d_out, d_out, 3, 1, 1, bias=False), norm_of(norm, d_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or d_in != d_out:
            self.shortcut = nn.Sequential(nn.Conv2d(d_in, d_out, 1, stride, bias=False), norm_of(norm, d_out))

    def forward(self, maps: Tensor) -> Tensor:
        """Map (B, d_in, H, W) to (B, d_out, H / stride, W / stride)."""
        inner = F.relu(self.norm1(self.conv1(maps)))
        return F.relu(self.norm2(self.conv2(inner)) + self.shortcut(maps))


def draw_network(network: nn.Module, seed: int) -> None:
    """Draw first weights: convolutions normal with variance 2 / fan-in (1502.01852), norms 1 and 0.

    Every parameter has a generator of its own, of the seed and its name.
    """
    with torch.no_grad():
        for name, value in network.named_parameters():
            if value.ndim > 1:
                drawn = torch.randn(value.shape, generator=torch_generator(seed, "image network", name))
                value.copy_(drawn * (2.0 / value[0].numel()) ** 0.5)
            else:
                value.fill_(0.0 if name.endswith("bias") else 1.0)

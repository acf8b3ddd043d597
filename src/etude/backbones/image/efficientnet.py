"""EfficientNet-lite0: inverted residual blocks without squeeze-and-excitation, with ReLU6.

Paper: Tan and Le 2019 (1905.11946), table 1; the lite variant leaves out what is slow on phones. The
convolutions pad as TensorFlow does, since the published weights were trained there: with stride 2 the odd
pixel of the padding stands at the right and at the bottom.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as F

from etude.backbones.image.networks import Network, means

STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80),
          (3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320))  # fmt: skip
"""Of each stage: blocks, size of the kernel, stride of the first block, expansion, channels."""
D_OUT = 1280
SIZE = 224
MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3
"""How the published weights want pixels: (x - 127) / 128."""


class SamePadded(nn.Conv2d):
    """A convolution that gives ceil(H / stride) by ceil(W / stride) pixels, padded as in TensorFlow."""

    def __init__(self, d_in: int, d_out: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(d_in, d_out, kernel, stride, kernel // 2 if stride == 1 else 0, groups=groups,
                         bias=False)  # fmt: skip

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name that torch gave it
        kernel, stride = self.kernel_size[0], self.stride[0]
        if stride > 1:
            across, down = (max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in
                            (input.shape[3], input.shape[2]))  # fmt: skip
            input = F.pad(input, (across // 2, across - across // 2, down // 2, down - down // 2))  # noqa: A001
        return super().forward(input)


def _unit(d_in: int, d_out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """A convolution and its norm."""
    return nn.Sequential(
        SamePadded(d_in, d_out, kernel, stride, groups), nn.BatchNorm2d(d_out, eps=1e-3, momentum=0.01)
    )


class InvertedResidual(nn.Module):
    """Widen, look around in every channel, narrow; with a shortcut where the shape stays."""

    def __init__(self, d_in: int, d_out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = d_in * expansion
        self.expand = _unit(d_in, inner, 1) if expansion > 1 else None
        self.depthwise = _unit(inner, inner, kernel, stride, groups=inner)
        self.project = _unit(inner, d_out, 1)
        self.shortcut = stride == 1 and d_in == d_out

    def forward(self, maps: Tensor) -> Tensor:
        """Map (B, d_in, H, W) to (B, d_out, H / stride, W / stride)."""
        inner = maps if self.expand is None else F.relu6(self.expand(maps))
        narrow: Tensor = self.project(F.relu6(self.depthwise(inner)))
        return maps + narrow if self.shortcut else narrow


class EfficientNetLite0(Network):
    """The network under the classifier: 3.4 million parameters, 1280 features.

    >>> import torch
    >>> net = EfficientNetLite0().eval()
    >>> tuple(net(torch.zeros(1, 3, 64, 64))[-1].shape), sum(p.numel() for p in net.parameters())
    ((1, 1280), 3371008)
    """

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.settings = {"model": "efficientnet_lite0"}
        self.d_out = D_OUT
        self.stem = _unit(channels, 32, 3, 2)
        self.layers = nn.ModuleList()
        d_in = 32
        for n_blocks, kernel, stride, expansion, d_out in STAGES:
            for i in range(n_blocks):
                step = stride if i == 0 else 1
                self.layers.append(InvertedResidual(d_in, d_out, kernel, step, expansion))
                d_in = d_out
        self.top = _unit(d_in, D_OUT, 1)

    def forward(self, images: Tensor, every_stage: bool = False) -> tuple[Tensor, ...]:
        maps, found = F.relu6(self.stem(images)), []
        for layer in self.layers:
            maps = layer(maps)
            if every_stage:
                found.append(means(maps))
        return (*found, means(F.relu6(self.top(maps))))

    def blocks(self) -> list[tuple[str, nn.Module]]:
        layers = [(f"layer.{i}", layer) for i, layer in enumerate(self.layers)]
        return [("stem", self.stem), *layers, ("top", self.top)]


_NAMES = (
    (r"^_conv_stem\.", "stem.0."), (r"^_bn0\.", "stem.1."), (r"^_conv_head\.", "top.0."),
    (r"^_bn1\.", "top.1."), (r"^_blocks\.", "layers."), (r"\._expand_conv\.", ".expand.0."),
    (r"\._bn0\.", ".expand.1."), (r"\._depthwise_conv\.", ".depthwise.0."), (r"\._bn1\.", ".depthwise.1."),
    (r"\._project_conv\.", ".project.0."), (r"\._bn2\.", ".project.1."),
)  # fmt: skip


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the published weights under this module's names, without their classifier.

    >>> import torch
    >>> sorted(renamed({"_bn0.bias": torch.zeros(1), "_blocks.1._bn0.bias": torch.zeros(1)}))
    ['layers.1.expand.1.bias', 'stem.1.bias']
    """
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        if name.startswith("_fc."):
            continue
        new = name
        for pattern, replacement in _NAMES:
            new = re.sub(pattern, replacement, new)
        found[new] = value
    return found

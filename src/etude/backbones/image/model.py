"""The image backbone: a network over pixels, and a head."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from etude.backbones.dropout import DropoutKeys, key_dropout_layers
from etude.backbones.heads import LinearHead
from etude.backbones.image.networks import Network
from etude.backbones.keyed import KeyedBackbone
from etude.backbones.model_folder import write_model_folder
from etude.backbones.saved_heads import head_form
from etude.config.images import ImageFormat, Views

MODEL_TYPE = "etude-image"
SHIFT = 16
"""A shifted view is moved by one such part of the image."""


class ImageBackbone(KeyedBackbone):
    """A network over images, normalised by channel, and a head on its features.

    The input is ``pixels`` (B, C, H, W) from 0 to 1; what is done to them in training sees them so, and the
    mean and the deviation of the format are applied here.

    Attributes:
        network: the network under the head.
        head: from the features (B, D) to logits (B, C).
        format: size, channels, mean and deviation of the images.
        views: of what views of an image the features are the mean, in evaluation mode.
        any_size: whether images of another size may come.
    """

    capabilities: ClassVar[frozenset[str]] = frozenset({"pixels", "mixable", "dropout", "linear_head"})
    mixable = ("pixels",)
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: Network,
        head: nn.Module,
        keys: DropoutKeys,
        image_format: ImageFormat,
        views: Views = "none",
    ) -> None:
        super().__init__(keys)
        self.network, self.head = network, head
        self.format, self.views = image_format, views
        self.any_size = network.any_size
        self.fingerprint = "images-" + "x".join(map(str, image_format.shape()))
        shape = (1, image_format.channels, 1, 1)
        for name, values in (("mean", image_format.mean), ("std", image_format.std)):
            self.register_buffer(name, torch.tensor(values).view(shape), persistent=False)
        key_dropout_layers(self, keys)
        if not isinstance(head, LinearHead):
            self.capabilities = self.capabilities - {"linear_head"}  # type: ignore[misc]  # of this one only

    def embed(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Normalise the pixels (B, C, H, W)."""
        return (inputs["pixels"] - self.mean) / self.std

    def layers_from(self, embedding: Tensor, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Map normalised images to features (B, D), where asked for behind those of every stage (B, d)."""
        views = "none" if self.training else self.views
        found = [self.network(_by_pixel(view), self.gives_all_layers) for view in views_of(embedding, views)]
        if len(found) == 1:
            return tuple(found[0])
        return tuple(torch.stack(layer).mean(dim=0) for layer in zip(*found, strict=True))

    def pool(self, layers: tuple[Tensor, ...], inputs: Mapping[str, Tensor]) -> Tensor:
        """The features of an image are those of its last stage."""
        return layers[-1]

    def blocks(self) -> list[tuple[str, nn.Module]]:
        """The stem, each stage, the head."""
        return [*self.network.blocks(), ("head", self.head)]

    def save(self, folder: Path, metadata: Mapping[str, Any]) -> None:
        """Write weights, architecture and ``etude.json``; a folder of that name is replaced."""
        form, state = head_form(self.head)
        config = {
            "model_type": MODEL_TYPE,
            "network": self.network.settings,
            "format": self.format.to_json(),
            "views": self.views,
            "head": form,
            "d_features": self.network.d_out,
        }

        def add(partial: Path) -> None:
            (partial / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")

        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        tensors |= {f"head.{name}": value for name, value in state.items()}
        write_model_folder(folder, tensors, metadata, add)


def _by_pixel(images: Tensor) -> Tensor:
    """The same images, in memory pixel by pixel: convolutions take half the time so, and less in bf16."""
    return images.contiguous(memory_format=torch.channels_last)


def views_of(images: Tensor, views: Views) -> list[Tensor]:
    """Return the views of images (B, C, H, W), themselves first.

    A shifted view repeats the pixels of the edge that it leaves.

    >>> x = torch.arange(16.0).view(1, 1, 1, 16)
    >>> [v[0, 0, 0, :3].tolist() for v in views_of(x, "flip_shifts")][:3]
    [[0.0, 1.0, 2.0], [15.0, 14.0, 13.0], [0.0, 0.0, 1.0]]
    """
    found = [images]
    if views in ("flip", "flip_shifts"):
        found.append(images.flip(3))
    if views == "none" or views == "flip":
        return found
    height, width = images.shape[2:]
    across, down = max(width // SHIFT, 1), max(height // SHIFT, 1)
    padded = F.pad(images, (across, across, down, down), mode="replicate")
    for x, y in ((0, down), (2 * across, down), (across, 0), (across, 2 * down)):
        shifted = padded[:, :, y : y + height, x : x + width]
        found += [shifted, shifted.flip(3)] if views == "flip_shifts" else [shifted]
    return found

"""Images: networks over pixels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np

from etude.backbones.image.model import ImageBackbone
from etude.backbones.image.opening import load_image_backbone, load_saved_image, wanted_format
from etude.config.images import ImageBackboneConfig, ImageFormat
from etude.core.backbone import Backbone
from etude.core.observe import Reporter
from etude.core.task import Task
from etude.data.image_sources import stream_images
from etude.data.images import ImageExamples, ImageLoader
from etude.data.load import Data
from etude.data.table import Table
from etude.errors import DataError
from etude.kinds.base import Kind, Saved, table_of

NAMES = ("image",)


class SavedImage(Saved):
    """A saved image model."""

    backbone: ImageBackbone
    thing = "image"

    def __init__(self, folder: Path, schema: Mapping[str, Any]) -> None:
        super().__init__(load_saved_image(folder), schema)

    @property
    def column(self) -> str:
        """The column of the images."""
        return str(self.schema["image"])

    def examples(self, table: Table, reporter: Reporter, column: str | None = None) -> ImageExamples:
        loader = ImageLoader(column or self.column, known=self.backbone.format)
        return loader.prepare(loader.read(table), None, None, reporter, table.line)

    def examples_of(
        self, inputs: Sequence[Any], pairs: Sequence[str] | None, reporter: Reporter
    ) -> ImageExamples:
        """Prepare paths, bytes, arrays or Pillow's images, or rows as mappings with a column of them."""
        if pairs is not None:
            raise DataError("this model takes no pairs; leave them out")
        cells = list(inputs)
        if any(isinstance(cell, Mapping) and self.column in cell for cell in cells):
            return self.examples(table_of(cells), reporter)
        return self.examples(Table("the list", {self.column: cells}, range(len(cells)), "image"), reporter)

    def stream(self, source: str, chunk: int) -> Iterator[Table]:
        labels = self.schema["labels"]
        label = labels if isinstance(labels, str) else "label"
        return stream_images(source, chunk, image=self.column, label=label)

    def shown(self, table: Table) -> dict[str, list[Any]]:
        """The columns without pixels and bytes: an image is written by its name."""
        return {name: [_written(cell, number) for cell, number in zip(cells, table.numbers, strict=True)]
                for name, cells in table.values.items()}  # fmt: skip


class ImageKind(Kind):
    """Images, for one run."""

    shows_inputs = False

    @property
    def _settings(self) -> ImageBackboneConfig:
        return cast("ImageBackboneConfig", self.config.backbone)

    @cached_property
    def _wanted(self) -> ImageFormat | None:
        """How the checkpoint wants its images."""
        return wanted_format(self._settings)

    @classmethod
    def open_saved(cls, folder: Path, metadata: Mapping[str, Any]) -> SavedImage:
        return SavedImage(folder, metadata["input"])

    def loader(self) -> ImageLoader:
        settings, labels = self._settings, self.config.data.labels
        size, channels = None if settings.size is None else (settings.size, settings.size), settings.channels
        if self._wanted is not None:
            size = size or (self._wanted.height, self._wanted.width)
            channels = channels or self._wanted.channels
        return ImageLoader(
            self.config.data.image,
            labels if isinstance(labels, str) else "label",
            size=size,
            channels=channels,
        )

    def backbone(self, task: Task, data: Data) -> ImageBackbone:
        return load_image_backbone(self._settings, task, data.fitted, seed=self.config.seed)

    def schema(self, data: Data) -> dict[str, Any]:
        return {"image": self.config.data.image, "format": data.fitted.to_json()}

    def describe(self, backbone: Backbone) -> str:
        n = sum(value.numel() for value in backbone.parameters())
        shape = " x ".join(map(str, cast("ImageBackbone", backbone).format.shape()))
        path = "" if self._settings.path is None else f" of {self._settings.path}"
        return f"{self._settings.model}{path}, {n:,} parameters, images {shape}"


KIND = ImageKind


def _written(cell: Any, number: int) -> Any:
    if isinstance(cell, Mapping) and "bytes" in cell:
        return cell.get("path") or f"image {number}"
    if isinstance(cell, bytes | np.ndarray) or hasattr(cell, "getpixel"):
        return f"image {number}"
    return cell

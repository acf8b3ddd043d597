"""The loader of images: decoded once into bytes, and made into numbers a batch at a time.

Where all of a part's images fit into memory they are one array; otherwise each batch decodes its own.
Shapes: N rows, B rows of a batch, C channels, H height, W width.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from etude.config.images import ImageFormat
from etude.core.observe import Reporter
from etude.data.image_sources import open_images
from etude.data.loader import Loader, Rows
from etude.data.pixels import Look, Pixels, Shape, decode, in_threads, look, name_of
from etude.data.table import Table
from etude.errors import DataError

MOST_BYTES = 4 * 2**30
"""Bytes of pixels that are kept in memory for one file."""
STATISTICS_ROWS = 5_000
"""Images from which mean and deviation are taken where they must be decoded for it."""
TOKEN = 16 * 16
"""Pixels that count as much as one token of a text where the rows of a forward pass are limited."""


class Store(Protocol):
    """The pixels of a file's images."""

    def pixels(self, rows: Rows) -> NDArray[np.uint8]:
        """Return some images, (B, C, H, W)."""


@dataclass(frozen=True)
class InMemory:
    """All images in one array (N, C, H, W)."""

    array: NDArray[np.uint8]

    def pixels(self, rows: Rows) -> NDArray[np.uint8]:
        """Return some images, (B, C, H, W)."""
        return self.array[rows]


@dataclass(frozen=True)
class OnDemand:
    """Images that are decoded each time they are needed."""

    decode: Callable[[int], Pixels]

    def pixels(self, rows: Rows) -> NDArray[np.uint8]:
        """Return some images, (B, C, H, W)."""
        return np.stack(list(in_threads(self.decode, rows.tolist())))


@dataclass(frozen=True)
class Joined:
    """The images of one store, and those of another behind them."""

    first: Store
    n_first: int
    second: Store

    def pixels(self, rows: Rows) -> NDArray[np.uint8]:
        """Return some images, (B, C, H, W)."""
        early = rows < self.n_first
        parts = [
            store.pixels(chosen)
            for store, chosen in ((self.first, rows[early]), (self.second, rows[~early] - self.n_first))
            if len(chosen)
        ]
        if len(parts) < 2:
            return parts[0]
        found = np.empty((len(rows), *parts[0].shape[1:]), dtype=np.uint8)
        found[early], found[~early] = parts
        return found


@dataclass(frozen=True)
class ImageContent:
    """N checked images.

    Attributes:
        store: the pixels of the whole file.
        rows: (N,) the rows' places in it.
        names, digests: of the whole file, by row.
        sizes: how often each (H, W) occurs in the file.
    """

    store: Store
    rows: Rows
    names: Sequence[str]
    digests: Sequence[str]
    sizes: Counter[tuple[int, int]]

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: Rows) -> ImageContent:
        """Some of the rows, in the order given; the pixels are shared."""
        return ImageContent(self.store, self.rows[rows], self.names, self.digests, self.sizes)

    def join(self, other: ImageContent) -> ImageContent:
        """These rows and those of another content behind them; the pixels are shared."""
        n = len(self.names)
        return ImageContent(
            Joined(self.store, n, other.store),
            np.concatenate([self.rows, other.rows + n]),
            [*self.names, *other.names],
            [*self.digests, *other.digests],
            self.sizes + other.sizes,
        )

    def shown(self) -> list[str]:
        """The images' names."""
        return [self.names[row] for row in self.rows.tolist()]

    def fingerprints(self) -> list[str]:
        """A hash of each image's pixels."""
        return [self.digests[row] for row in self.rows.tolist()]


class ImageExamples:
    """N images with their targets.

    Attributes:
        targets: (N, C) float32.
        weights: (N,) float32.
        lengths: (N,) int64, an image's size in tokens, so that large images go in small batches.
        digests: (N,) hashes of the images, which stand for them where two data sets are compared.
        names: (N,) the images' names.
    """

    def __init__(self, content: ImageContent, targets: Tensor, weights: Tensor, shape: Shape) -> None:
        self.targets, self.weights = targets, weights
        tokens = max(1, shape[1] * shape[2] // TOKEN)
        self.lengths: NDArray[np.int64] = np.full(len(content), tokens, dtype=np.int64)
        self.digests = np.asarray(content.fingerprints(), dtype="S32")
        self.names = content.shown()
        self._store, self._rows = content.store, content.rows

    def __len__(self) -> int:
        return len(self._rows)

    def inputs(self, rows: Rows) -> dict[str, Tensor]:
        """Return ``pixels`` (B, C, H, W), float32 from 0 to 1."""
        pixels = torch.from_numpy(self._store.pixels(self._rows[rows]))
        return {"pixels": pixels.to(torch.float32).div_(255)}


class ImageLoader(Loader):
    """Reads images, brings them to one size, and takes the training images' mean and deviation.

    Args:
        column: of the images.
        label: of the labels, for sources that name none.
        size: H and W, a number for squares, or none for the data's own.
        channels: 1 or 3, or none for 1 where all images are grey.
        known: the format of a saved model, in the place of looking and learning.
        most_bytes: see :data:`MOST_BYTES`.
    """

    same = "the same pixels"
    fitted: ImageFormat | None

    def __init__(
        self,
        column: str = "image",
        label: str = "label",
        *,
        size: tuple[int, int] | int | None = None,
        channels: Literal[1, 3] | None = None,
        known: ImageFormat | None = None,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._column, self._label = column, label
        self._size = (size, size) if isinstance(size, int) else size
        self._channels, self._most_bytes = channels, most_bytes
        self.fitted = known

    def open(self, source: str, role: str) -> Table:
        return open_images(source, role, image=self._column, label=self._label)

    def read(self, table: Table) -> ImageContent:
        """Check and decode every image of a table; the first table decides size and channels."""
        cells = table.column(self._column)
        folder = Path(table.path) if table.path.endswith("/") else Path(table.path).parent
        looks = _looks(cells, folder, table, self._column)
        if self.fitted is None:
            self.fitted = _choose_format(looks, self._size, self._channels)
        shape = self.fitted.shape()

        def decode_row(row: int) -> Pixels:
            return decode(cells[row], shape, folder, table.line(row, self._column))

        store, digests = _store(cells, shape, decode_row, self._most_bytes)
        names = [name_of(cell, table.numbers[row]) for row, cell in enumerate(cells)]
        sizes = Counter(seen.size for seen in looks)
        return ImageContent(store, np.arange(len(cells)), names, digests, sizes)

    def fit(self, train: Any) -> None:
        if self.fitted is None:
            raise DataError("no images were read; read the training rows first")
        if not self.fitted.mean:
            mean, std = statistics(train)
            self.fitted = self.fitted.model_copy(update={"mean": mean, "std": std})

    def prepare(
        self,
        content: Any,
        targets: NDArray[np.float32] | None,
        weights: NDArray[np.float32] | None,
        reporter: Reporter,
        place: Callable[[int], str],
    ) -> ImageExamples:
        n = len(content)
        targets = np.zeros((n, 0), dtype=np.float32) if targets is None else targets
        weights = np.ones(n, dtype=np.float32) if weights is None else weights
        if self.fitted is None:
            raise DataError("no images were read; read the training rows first")
        shape = self.fitted.shape()
        return ImageExamples(content, torch.from_numpy(targets), torch.from_numpy(weights), shape)

    def warnings(self, train: Any, examples: Any) -> list[str]:
        if self._size is not None or len(train.sizes) <= 1 or self.fitted is None:
            return []
        smallest, largest = min(train.sizes), max(train.sizes)
        return [
            f"the images have {len(train.sizes)} sizes, {_written(smallest)} to {_written(largest)}, and all "
            f"are brought to {self.fitted.height} x {self.fitted.width}; set backbone.size to choose"
        ]


def statistics(content: ImageContent) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel, of pixels from 0 to 1; a deviation of 0 is 1.

    Counting the 256 values makes it exact. Of images on demand at most ``STATISTICS_ROWS`` are decoded.
    """
    rows = content.rows
    if isinstance(content.store, OnDemand) and len(rows) > STATISTICS_ROWS:
        rows = rows[np.linspace(0, len(rows) - 1, STATISTICS_ROWS).astype(np.int64)]
    counts: NDArray[np.int64] | None = None
    for start in range(0, len(rows), 256):
        pixels = content.store.pixels(rows[start : start + 256])
        found = np.stack([np.bincount(pixels[:, c].ravel(), minlength=256) for c in range(pixels.shape[1])])
        counts = found if counts is None else counts + found
    if counts is None:
        raise DataError("there are no training images to take the mean and the deviation of; add rows")
    values = np.arange(256) / 255
    shares = counts / counts.sum(axis=1, keepdims=True)
    mean = shares @ values
    std = np.sqrt(np.maximum(shares @ values**2 - mean**2, 0))
    std = np.where(std > 1e-6, std, 1.0)
    return tuple(mean.round(8).tolist()), tuple(std.round(8).tolist())


def _looks(cells: list[Any], folder: Path, table: Table, column: str) -> list[Look]:
    """What every image's header says."""

    def look_at(row: int) -> Look:
        return look(cells[row], folder, table.line(row, column))

    return list(in_threads(look_at, range(len(cells))))


def _choose_format(
    looks: list[Look], size: tuple[int, int] | None, channels: Literal[1, 3] | None
) -> ImageFormat:
    """Size and channels of the images: as asked for, else their own.

    Images of several sizes become squares as wide as the median of their shorter sides.
    """
    if channels is None:
        channels = 1 if all(seen.grey for seen in looks) else 3
    sizes = {seen.size for seen in looks}
    if size is not None:
        height, width = size
    elif len(sizes) == 1:
        height, width = sizes.pop()
    else:
        height = width = int(np.median([min(seen.size) for seen in looks]))
    return ImageFormat(height=height, width=width, channels=channels)


def _store(
    cells: list[Any], shape: Shape, decode_row: Callable[[int], Pixels], most_bytes: int
) -> tuple[Store, list[str]]:
    """Decode every image once, keep the pixels if they fit, and return their hashes."""
    if len(cells) * int(np.prod(shape)) > most_bytes:
        return OnDemand(decode_row), list(in_threads(lambda row: _digest(decode_row(row)), range(len(cells))))
    array = np.empty((len(cells), *shape), dtype=np.uint8)
    plain = shape[0] == 1 and all(isinstance(c, np.ndarray) and c.dtype == np.uint8 for c in cells)
    if plain and all(cell.shape == shape[1:] for cell in cells):
        array[:, 0] = np.stack(cells)
    else:

        def put(row: int) -> None:
            array[row] = decode_row(row)

        for _ in in_threads(put, range(len(cells))):
            pass
    return InMemory(array), [_digest(pixels) for pixels in array]


def _digest(pixels: Pixels) -> str:
    return hashlib.blake2b(pixels.tobytes(), digest_size=16).hexdigest()


def _written(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"

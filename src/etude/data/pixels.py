"""From the cell of a table to the pixels of one image, whatever the file's format.

A cell is a path, the bytes of a file, a mapping ``{"bytes", "path"}`` as Hugging Face's data sets have, an
array, or an image of Pillow. Pixels come out as unsigned bytes. Shapes: C channels, H height, W width.
"""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from etude.errors import DataError

T = TypeVar("T")
A = TypeVar("A")

Pixels = NDArray[np.uint8]
Shape = tuple[int, int, int]
"""(C, H, W)."""

GREY_MODES = frozenset({"1", "L", "I", "F", "LA", "La"})
_DAMAGE = (OSError, SyntaxError, ValueError, struct.error, zlib.error, EOFError, IndexError, MemoryError)
"""What Pillow's decoders raise on files that are damaged."""


@dataclass(frozen=True, slots=True)
class Look:
    """What an image's header says: whether it is grey, and (H, W)."""

    grey: bool
    size: tuple[int, int]


def name_of(cell: Any, number: int) -> str:
    """The name of an image for reports: its path where there is one.

    >>> name_of({"bytes": b"...", "path": "cat.png"}, 7), name_of(b"...", 7)
    ('cat.png', 'image 7')
    """
    path = cell.get("path") if isinstance(cell, Mapping) else cell
    return path if isinstance(path, str) and path else f"image {number}"


def look(cell: Any, folder: Path, place: str) -> Look:
    """Read an image's mode and size, without its pixels.

    Args:
        cell: see the module.
        folder: where relative paths begin.
        place: names the cell in an error.

    Raises:
        DataError: it is no image.
    """
    if isinstance(cell, np.ndarray):
        array = _arranged(cell, place)
        return Look(array.shape[2] == 1, array.shape[:2])
    image = _opened(cell, folder, place)
    width, height = image.size
    if _held_upright(image, cell, place):
        width, height = height, width
    grey = image.mode in GREY_MODES or image.mode.startswith("I;16")
    return Look(grey, (height, width))


def decode(cell: Any, shape: Shape, folder: Path, place: str) -> Pixels:
    """Return an image's pixels (C, H, W).

    The image is scaled until it covers H by W, and what stands over is cut off on both sides. Transparent
    pixels show white, 16 bits are scaled to 8, and a camera's rotation is undone.

    Args:
        cell: see the module.
        shape: (C, H, W), C being 1 for grey and 3 for colour.
        folder: where relative paths begin.
        place: names the cell in an error.

    Raises:
        DataError: it is no image, or it is damaged.

    >>> decode(np.array([[0, 255]], dtype=np.uint8), (3, 1, 2), Path(), "row 1").tolist()
    [[[0, 255]], [[0, 255]], [[0, 255]]]
    """
    channels, height, width = shape
    if isinstance(cell, np.ndarray):
        image = _from_array(_arranged(cell, place))
    else:
        image = _loaded(_opened(cell, folder, place), cell, place)
    image = _plain(image, "L" if channels == 1 else "RGB", place)
    if image.size != (width, height):
        image = ImageOps.fit(image, (width, height), method=Image.Resampling.BICUBIC)
    pixels = np.asarray(image)
    return np.ascontiguousarray(pixels[None] if channels == 1 else pixels.transpose(2, 0, 1))


def in_threads(work: Callable[[A], T], items: Iterable[A]) -> Iterator[T]:
    """Apply a function to items in their order; decoders work outside of Python's lock.

    >>> list(in_threads(abs, [-1, 2]))
    [1, 2]
    """
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
        yield from pool.map(work, items)


def _opened(cell: Any, folder: Path, place: str) -> Image.Image:
    """Open an image, without its pixels."""
    if isinstance(cell, Image.Image):
        return cell
    given = cell
    if isinstance(cell, Mapping):
        given = cell.get("bytes") or cell.get("path")
    if isinstance(given, str) and given.strip():
        named = f"{place}: {given}"
        given = _bytes_of(given, folder, named)
    elif isinstance(given, bytes):
        named = f"{place}: the image"
    else:
        raise DataError(f"{place} is {cell!r}; a path, the bytes of a file or an array is expected")
    if not given:
        raise DataError(f"{named} is empty, 0 bytes; replace it, or remove its row")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return Image.open(io.BytesIO(given))
    except UnidentifiedImageError:
        raise DataError(f"{named} is no image that can be read; replace it, or remove its row") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise DataError(f"{named} claims more pixels than can be held; make it smaller") from None
    except _DAMAGE as error:
        raise DataError(_damaged(named, error)) from None


def _bytes_of(name: str, folder: Path, named: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except FileNotFoundError:
        raise DataError(
            f"{named} does not exist; paths begin at the folder {folder}, or at the root with '/'"
        ) from None
    except OSError as error:
        raise DataError(f"{named} cannot be read: {error.strerror or error}") from None


def _held_upright(image: Image.Image, cell: Any, place: str) -> bool:
    """Whether height and width change places when the camera's rotation is undone."""
    try:
        return bool(image.getexif().get(0x0112, 1) in (5, 6, 7, 8))
    except _DAMAGE as error:
        raise DataError(_damaged(_named(cell, place), error)) from None


def _named(cell: Any, place: str) -> str:
    name = name_of(cell, 0)
    return f"{place}: {'the image' if name == 'image 0' else name}"


def _loaded(image: Image.Image, cell: Any, place: str) -> Image.Image:
    """Decode the pixels, and turn them as the camera says."""
    try:
        image.load()
        return ImageOps.exif_transpose(image)
    except _DAMAGE as error:
        raise DataError(_damaged(_named(cell, place), error)) from None


def _damaged(named: str, error: BaseException) -> str:
    reason = str(error).strip().splitlines()
    return (
        f"{named} is truncated or damaged ({reason[0].rstrip('.') if reason else type(error).__name__}); "
        "replace it, or remove its row"
    )


def _plain(image: Image.Image, mode: str, place: str) -> Image.Image:
    """Return an image as 8 bits of grey (``"L"``) or colour (``"RGB"``), whatever it was."""
    if image.mode.startswith("I") or image.mode == "F":
        image = Image.fromarray(_as_bytes(np.asarray(image), place))
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        coloured = image.convert("RGBA")
        white = Image.new("RGBA", coloured.size, "white")
        image = Image.alpha_composite(white, coloured)
    return image.convert(mode)


def _from_array(array: Pixels) -> Image.Image:
    """An array (H, W, 1, 3 or 4) as an image."""
    return Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else np.ascontiguousarray(array))


def _arranged(array: NDArray[Any], place: str) -> Pixels:
    """Return an array (H, W), (H, W, C) or (C, H, W) as bytes (H, W, C)."""
    if array.ndim == 2:
        array = array[:, :, None]
    elif array.ndim == 3 and array.shape[2] not in (1, 3, 4) and array.shape[0] in (1, 3, 4):
        array = array.transpose(1, 2, 0)
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or array.size == 0:
        raise DataError(
            f"{place} holds an array of shape {tuple(array.shape)}; an image is (height, width), or that "
            "with 1, 3 or 4 channels"
        )
    return _as_bytes(array, place)


def _as_bytes(array: NDArray[Any], place: str) -> Pixels:
    """Return pixels as bytes: 0 to 255 as they are, 16 bits scaled, and shares of 1 scaled."""
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind not in "iuf":
        raise DataError(f"{place} holds pixels of type {array.dtype}; numbers are expected")
    low, high = float(array.min()), float(array.max())
    if not (np.isfinite(low) and np.isfinite(high)) or low < 0 or high > 65535:
        raise DataError(
            f"{place} holds pixels from {low:g} to {high:g}; they must lie in 0 to 1, 0 to 255 or, with 16 "
            "bits, 0 to 65535"
        )
    if array.dtype.kind == "f":
        scale = 255.0 if high <= 1 else 1.0 if high <= 255 else 1 / 257
    else:
        scale = 1 / 257 if array.dtype.itemsize == 2 or high > 255 else 1.0
    return np.rint(array.astype(np.float64) * scale).astype(np.uint8)

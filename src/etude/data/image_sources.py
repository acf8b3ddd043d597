"""Where images come from: folders of classes, arrays in npz files, and tables of paths or bytes.

Each becomes a table with a column of images and, where it has labels, a column of labels. ``"FILE:PART"``
names a part of a file: the arrays of that part in an npz file (``x_train``, ``y_train``), or the rows of a
table whose column ``split`` says so.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etude.data.sources import read_table, stream_rows
from etude.data.table import Table
from etude.errors import DataError, closest

IMAGE_SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".ico", ".jfif", ".jp2", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm",
     ".ppm", ".tga", ".tif", ".tiff", ".webp"}
)  # fmt: skip
SPLIT_COLUMN = "split"
_PART_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}
_IMAGE_ARRAYS = ("x", "X", "image", "images")
_LABEL_ARRAYS = ("y", "Y", "label", "labels")


def open_images(source: str, role: str, *, image: str, label: str) -> Table:
    """Read a source of images as a table.

    Args:
        source: a folder with one folder for each class, an npz file, any file of rows, or a hub data set;
            ``":PART"`` behind a file names a part of it.
        role: ``"train"``, ``"validation"`` or ``"test"``, the part where the source names none.
        image: the name of the column that folders and arrays get.
        label: the same of their labels.

    Raises:
        DataError: it cannot be read, a class has no image, or there is no such part.
    """
    path, part = _split_off_part(source)
    if path.is_dir():
        return _read_folder(path, part or role, image, label)
    if path.suffix.lower() == ".npz":
        return _read_arrays(path, part, role, image, label)
    if part is None:
        return read_table(source, role=role)
    return _rows_of_part(read_table(str(path), role=role), part)


def stream_images(source: str, chunk: int, *, image: str, label: str) -> Iterator[Table]:
    """Yield the rows of a source in tables of at most ``chunk`` rows, for prediction.

    A folder may hold images alone, without a folder for each class.

    Raises:
        DataError: as :func:`open_images`.
    """
    path, part = _split_off_part(source)
    if source == "-" or not (path.is_dir() or path.suffix.lower() == ".npz" or part is not None):
        yield from stream_rows(source, chunk)
        return
    flat = path.is_dir() and any(file.is_file() and _is_image(file) for file in path.iterdir())
    whole = (
        _table_of_files(path, _images_under(path), image)
        if flat
        else open_images(source, "test", image=image, label=label)
    )
    for start in range(0, whole.rows, chunk):
        yield whole.take(range(start, min(start + chunk, whole.rows)))


def _split_off_part(source: str) -> tuple[Path, str | None]:
    """``FILE:PART`` in its two pieces, where there is such a file."""
    before, colon, part = source.rpartition(":")
    if colon and part and not Path(source).exists() and Path(before).exists():
        return Path(before), part
    return Path(source), None


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")


def _images_under(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file() and _is_image(file))


def _folders_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _read_folder(folder: Path, role: str, image: str, label: str) -> Table:
    """Read a folder with one folder for each class, or with one for each part and these within."""
    inside = {path.name.lower(): path for path in _folders_in(folder)}
    part = next((inside[name] for name in _PART_NAMES.get(role, (role,)) if name in inside), None)
    if part is not None and _folders_in(part):
        folder = part
    classes = _folders_in(folder)
    if not classes:
        raise DataError(
            f"{folder} holds no folders; give a folder with one folder of images for each class, or a file "
            "with a column of paths"
        )
    files: list[Path] = []
    labels: list[str] = []
    for of_class in classes:
        found = _images_under(of_class)
        if not found:
            raise DataError(
                f"the class folder {of_class} holds no image (png, jpg, webp, ...); put some in, or remove it"
            )
        files += found
        labels += [of_class.name] * len(found)
    table = _table_of_files(folder, files, image)
    return Table(table.path, {**table.values, label: labels}, table.numbers, table.unit)


def _table_of_files(folder: Path, files: list[Path], image: str) -> Table:
    """A table of files; its path ends in a slash so that their paths begin inside of it."""
    names = [file.relative_to(folder).as_posix() for file in files]
    return Table(f"{folder}/", {image: names}, range(1, len(files) + 1), "image")


def _rows_of_part(table: Table, part: str) -> Table:
    if SPLIT_COLUMN not in table.columns:
        raise DataError(
            f"{table.path}:{part} names a part and the file has no column {SPLIT_COLUMN!r}; its columns are "
            f"{', '.join(table.columns)}"
        )
    cells = [str(cell) for cell in table.column(SPLIT_COLUMN)]
    rows = [row for row, cell in enumerate(cells) if cell == part]
    if not rows:
        known = sorted(set(cells))
        raise DataError(
            f"{table.path} has no rows whose {SPLIT_COLUMN!r} is {part!r}{closest(part, known)}; there are "
            f"{', '.join(known)}"
        )
    return table.take(rows)


def _read_arrays(path: Path, part: str | None, role: str, image: str, label: str) -> Table:
    """Read the images and the labels of one part of an npz file."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            names = list(file.files)
            images = _array(file, path, names, _keys(_IMAGE_ARRAYS, part, role), "images")
            labelled = next((key for key in _keys(_LABEL_ARRAYS, part, role) if key in names), None)
            labels = None if labelled is None else file[labelled]
    except FileNotFoundError:
        raise DataError(f"there is no file {path}") from None
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        reason = str(error).strip().splitlines()
        raise DataError(
            f"{path} is no readable npz file of plain arrays ({reason[0] if reason else 'empty'}); write it "
            "with numpy.savez"
        ) from None
    values: dict[str, list[Any]] = {image: list(images)}
    if labels is not None:
        if labels.ndim == 2 and labels.shape[1] == 1:
            labels = labels[:, 0]
        if labels.shape != images.shape[:1]:
            raise DataError(
                f"{path} holds {len(images)} images and {labelled} of shape {labels.shape}; one label for "
                "each image is needed"
            )
        values[label] = labels.tolist()
    if len(images) == 0:
        raise DataError(f"{path} holds no images; give a file with at least one")
    return Table(str(path) if part is None else f"{path}:{part}", values, range(1, len(images) + 1), "image")


def _keys(stems: tuple[str, ...], part: str | None, role: str) -> list[str]:
    """The names under which a part's array may stand, the likeliest first."""
    parts = _PART_NAMES.get(part or role, (part or role,))
    joined = [key for name in parts for stem in stems for key in (f"{stem}_{name}", f"{name}_{stem}")]
    return joined if part is not None else [*joined, *stems]


def _array(file: Any, path: Path, names: list[str], keys: list[str], what: str) -> NDArray[Any]:
    found = next((key for key in keys if key in names), None)
    if found is None:
        raise DataError(
            f"{path} holds no {what} under {keys[0]!r}; its arrays are {', '.join(names) or 'none'}; name "
            f"the part as '{path.name}:train' where there is more than one"
        )
    array: NDArray[Any] = file[found]
    if array.ndim not in (3, 4):
        raise DataError(
            f"{path}, array {found!r} has shape {array.shape}; images are (N, height, width), or that with "
            "channels"
        )
    return array

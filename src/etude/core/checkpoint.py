"""Checkpoints: one folder each, written whole or not at all, verified before use, never a pickle.

``step-00000120/`` holds ``state.safetensors`` (every tensor) and ``state.json`` (every number, and the
SHA-256 of both). The folder is written under a temporary name and renamed, so that a kill at
any moment leaves the previous checkpoint good.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from etude.errors import RunError

TENSORS, NUMBERS = "state.safetensors", "state.json"
PARTIAL = ".partial-"


def flatten(value: Any, prefix: str = "") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Split nested mappings into tensors and numbers, both by ``a/b/c`` paths.

    >>> import torch
    >>> tensors, numbers = flatten({"ema": {"w": torch.zeros(2), "n": 3}})
    >>> sorted(tensors), numbers
    (['ema/w'], {'ema/n': 3})
    """
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, Any] = {}
    for name, item in value.items():
        path = f"{prefix}{name}"
        if isinstance(item, Mapping):
            more_tensors, more_numbers = flatten(item, f"{path}/")
            tensors |= more_tensors
            numbers |= more_numbers
        elif isinstance(item, Tensor):
            tensors[path] = item
        else:
            numbers[path] = item
    return tensors, numbers


def unflatten(tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> dict[str, Any]:
    """Undo :func:`flatten`."""
    nested: dict[str, Any] = {}
    for path, item in {**tensors, **numbers}.items():
        *parents, name = path.split("/")
        at = nested
        for parent in parents:
            at = at.setdefault(parent, {})
        at[name] = item
    return nested


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest_numbers(numbers: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(numbers, sort_keys=True).encode()).hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def save_checkpoint(folder: Path, step: int, state: Mapping[str, Any], keep: int) -> Path:
    """Write the checkpoint of a step and remove all but the newest ``keep``.

    Raises:
        RunError: the disk is full or cannot be written; earlier checkpoints are untouched.
    """
    final = folder / f"step-{step:08d}"
    partial, replaced = folder / f"{PARTIAL}{step:08d}", folder / f"{PARTIAL}replaced"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(f"{PARTIAL}*"):  # by a kill
            shutil.rmtree(left, ignore_errors=True)
        partial.mkdir()
        tensors, numbers = flatten(state)
        # Tensors that share memory (tied weights) are refused by the format, hence the copies.
        save_file({name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()},
                  partial / TENSORS)  # fmt: skip
        content = {
            "sha256": _digest(partial / TENSORS),
            "sha256_numbers": _digest_numbers(numbers),
            "numbers": numbers,
        }
        (partial / NUMBERS).write_text(json.dumps(content))
        for path in (partial / TENSORS, partial / NUMBERS, partial):
            _sync(path)
        if final.exists():  # moved away whole, since a kill may come while its files are removed
            final.rename(replaced)
        partial.rename(final)
        _sync(folder)
        shutil.rmtree(replaced, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)
        reason = "the disk is full" if full else str(error)
        raise RunError(
            f"the checkpoint of step {step} could not be written to {folder}: {reason}; earlier "
            "checkpoints are intact, so make room and resume"
        ) from None
    for old in checkpoints(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def checkpoints(folder: Path) -> list[Path]:
    """The complete checkpoints of a folder, oldest first."""
    return sorted(folder.glob("step-*")) if folder.is_dir() else []


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read one checkpoint.

    Raises:
        RunError: it is incomplete, truncated or altered.
    """
    try:
        content = json.loads((path / NUMBERS).read_text())
        intact = (
            _digest(path / TENSORS) == content["sha256"]
            and _digest_numbers(content["numbers"]) == content["sha256_numbers"]
        )
    except (OSError, ValueError, KeyError, TypeError):
        intact = False
    if not intact:
        raise RunError(f"the checkpoint {path} is truncated or was altered; remove its folder to go on")
    return unflatten(load_file(path / TENSORS), content["numbers"])

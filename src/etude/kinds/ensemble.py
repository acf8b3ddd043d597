"""Ensembles: a model folder whose members are model folders of any kind, each in a folder inside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from etude.backbones.combined import METHODS, Combined
from etude.backbones.model_folder import METADATA, WEIGHTS
from etude.core.backbone import Backbone
from etude.core.examples import Examples
from etude.core.observe import Reporter
from etude.core.task import Task
from etude.data.load import Data
from etude.data.loader import Loader
from etude.data.table import Table
from etude.errors import ConfigError, RunError
from etude.kinds.base import Kind, Saved

NAMES = ("ensemble",)


class JoinedExamples:
    """The same rows as each source of an ensemble reads them."""

    def __init__(self, parts: Sequence[Examples]) -> None:
        first = parts[0]
        self.targets, self.weights = first.targets, first.weights
        self.lengths: NDArray[np.int64] = np.max([part.lengths for part in parts], axis=0)
        self._parts = parts

    def __len__(self) -> int:
        return len(self._parts[0])

    def inputs(self, rows: NDArray[np.int64]) -> dict[str, Tensor]:
        """Return the inputs of some rows, each source's under its number."""
        return {
            f"{source}.{name}": value
            for source, part in enumerate(self._parts)
            for name, value in part.inputs(rows).items()
        }


class SavedEnsemble(Saved):
    """A saved ensemble with its members."""

    def __init__(self, folder: Path, metadata: Mapping[str, Any]) -> None:
        about = _checked(folder, metadata)
        self.members = [_open_member(folder / name, metadata) for name in about["members"]]
        first = self.members[0]
        self.thing = first.thing
        sources, self._readers = sources_of(self.members)
        tensors = _tensors(folder, about["method"], len(self.members), len(metadata["labels"]))
        backbone = Combined(
            [member.backbone for member in self.members],
            sources,
            about["method"],
            tensors,
            len(metadata["labels"]),
            several=metadata["task"] == "multilabel",
        )
        super().__init__(backbone, metadata["input"])

    def examples(self, table: Table, reporter: Reporter, column: str | None = None) -> Examples:
        return JoinedExamples([reader.examples(table, reporter, column) for reader in self._readers])

    def examples_of(self, inputs: Sequence[Any], pairs: Sequence[str] | None, reporter: Reporter) -> Examples:
        return JoinedExamples([reader.examples_of(inputs, pairs, reporter) for reader in self._readers])

    def stream(self, source: str, chunk: int) -> Any:
        return self.members[0].stream(source, chunk)

    def shown(self, table: Table) -> dict[str, list[Any]]:
        return self.members[0].shown(table)

    def refuse_teaching(self, data: Data, path: str) -> None:
        for member in self.members:
            member.refuse_teaching(data, path)


def sources_of(members: Sequence[Saved]) -> tuple[list[int], list[Saved]]:
    """Return which source each member reads, and a member to read each source with.

    Members whose inputs are of one format, described in the same words, share a source, so that a text is
    tokenized once for all of them.
    """
    known: dict[str, int] = {}
    readers: list[Saved] = []
    sources: list[int] = []
    for member in members:
        print_ = member.backbone.fingerprint
        alone = not print_ or member.schema.get("kind") == "ensemble"
        key = f"{len(known)}" if alone else json.dumps([print_, dict(member.schema)], sort_keys=True)
        if key not in known:
            known[key] = len(readers)
            readers.append(member)
        sources.append(known[key])
    return sources, readers


def _checked(folder: Path, metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    about = metadata.get("ensemble")
    usable = isinstance(about, Mapping) and about.get("members") and about.get("method") in METHODS
    if not usable or not isinstance(about, Mapping):
        raise RunError(
            f"{folder / METADATA} does not say which members the ensemble has and how they are joined; "
            "make it again with etude ensemble"
        )
    return about


def _open_member(folder: Path, whole: Mapping[str, Any]) -> Saved:
    from etude.kinds import open_saved

    try:
        metadata = json.loads((folder / METADATA).read_text(encoding="utf-8"))
        same = metadata["labels"] == whole["labels"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"the member {folder} of the ensemble cannot be read: {error!r}; make it again"
        ) from None
    if not same:
        raise RunError(f"the member {folder} has other labels than the ensemble; make it again")
    return open_saved(folder, metadata)


def _tensors(folder: Path, method: str, n_members: int, n_classes: int) -> dict[str, Tensor]:
    try:
        found: dict[str, Tensor] = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise RunError(f"{folder / WEIGHTS} cannot be read: {error}; make the ensemble again") from None
    wanted: dict[str, tuple[int, ...]] = {"weights": (n_members,)}
    if method == "stacking":
        wanted = {"matrix": (n_classes, n_members * n_classes), "bias": (n_classes,)}
    fits = all(name in found and tuple(found[name].shape) == shape for name, shape in wanted.items())
    if not fits or (method == "ranks" and found.get("quantiles", torch.empty(0)).ndim != 3):
        raise RunError(f"{folder / WEIGHTS} does not fit {n_members} members; make the ensemble again")
    return found


class EnsembleKind(Kind):
    """Ensembles are made of trained models, and are not trained themselves."""

    @classmethod
    def open_saved(cls, folder: Path, metadata: Mapping[str, Any]) -> SavedEnsemble:
        return SavedEnsemble(folder, metadata)

    def loader(self) -> Loader:
        _refuse()

    def backbone(self, task: Task, data: Data) -> Backbone:
        _refuse()

    def schema(self, data: Data) -> dict[str, Any]:
        _refuse()

    def describe(self, backbone: Backbone) -> str:
        _refuse()


def _refuse() -> NoReturn:
    raise ConfigError("an ensemble is made of trained models, by 'etude ensemble', and not by a config")


KIND = EnsembleKind

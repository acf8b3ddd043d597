"""Fixtures of the backbones' tests: tiny checkpoints, written once, and their configurations."""

from collections.abc import Callable
from typing import Any

import pytest
import transformers
from tiny_checkpoints import write_checkpoint

from etude.config.run import BackboneConfig
from etude.core.task import Task, make_task


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Return the folder of a tiny checkpoint of an architecture."""
    root = tmp_path_factory.mktemp("checkpoints")

    def folder_of(architecture: str) -> str:
        folder = root / architecture
        if not folder.exists():
            write_checkpoint(folder, architecture)
        return str(folder)

    return folder_of


@pytest.fixture(scope="session", autouse=True)
def quiet_transformers() -> None:
    transformers.utils.logging.disable_progress_bar()


@pytest.fixture
def task() -> Task:
    return make_task("multiclass", ["lost", "open", "closed"])


@pytest.fixture
def config(checkpoint: Callable[[str], str]) -> Callable[..., BackboneConfig]:
    """Return a backbone's configuration for an architecture."""

    def make(architecture: str, **settings: Any) -> BackboneConfig:
        return BackboneConfig(path=checkpoint(architecture), **{"max_length": 32, **settings})

    return make

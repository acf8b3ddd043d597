"""A fitted estimator in a folder: ``estimator.json``, and what it writes beside it, with their SHA-256."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from etude.errors import EtudeError, RunError
from etude.estimators.base import Curves, Estimator
from etude.estimators.linear import LinearEstimator
from etude.estimators.trees import TreesEstimator

ESTIMATOR = "estimator.json"
KINDS: Mapping[str, type[Estimator]] = {"trees": TreesEstimator, "linear": LinearEstimator}


def save_estimator(estimator: Estimator, folder: Path) -> None:
    """Write a fitted estimator into a folder of its own that exists.

    Raises:
        OSError: the folder cannot be written.
    """
    told: dict[str, Any] = {
        "kind": estimator.kind,
        "task": estimator.task,
        "n_classes": estimator.n_classes,
        "curves": estimator.curves.to_json(),
        **estimator.save(folder),
    }
    told["files"] = {path.name: _digest(path) for path in sorted(folder.iterdir()) if path.name != ESTIMATOR}
    (folder / ESTIMATOR).write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def load_estimator(folder: Path) -> Estimator:
    """Open what :func:`save_estimator` wrote; nothing in it is a pickle.

    Raises:
        RunError: it is damaged, or of a kind that this version does not know.
        ConfigError: it needs a library that is not installed.
    """
    try:
        told = json.loads((folder / ESTIMATOR).read_text(encoding="utf-8"))
        # A library may end the whole process on a file that is damaged.
        for name, digest in told["files"].items():
            if _digest(folder / name) != digest:
                raise RunError(f"{folder / name} is not as it was written; train the model again")
        found = KINDS[told["kind"]].load(folder, told)
        found.curves = Curves(**told["curves"])
    except EtudeError:
        raise
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise RunError(f"the model in {folder} cannot be read: {error!r}; train it again") from None
    return found


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()

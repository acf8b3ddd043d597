"""A file of pseudo-labels: the rows that a round of self-training learns, each with its target and weight.

Rows are counted in the pool: the labelled training rows from 0, and behind them those without labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from etude.core.task import Task
from etude.data.splits import Rows
from etude.errors import DataError

ROW, WEIGHT, TARGET = "row", "weight", "target:"
WRITE_AGAIN = "remove it and start 'etude self-train' again, which writes it anew"


@dataclass(frozen=True)
class PseudoLabels:
    """M rows with what they are taught as.

    Attributes:
        rows: (M,) positions in the pool, each once.
        targets: (M, C) float32.
        weights: (M,) float32.
    """

    rows: Rows
    targets: NDArray[np.float32]
    weights: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.rows)


def read_pseudo_labels(path: Path, task: Task, n_pool: int) -> PseudoLabels:
    """Read a file of pseudo-labels (parquet).

    Args:
        path: the file.
        task: whose labels its targets must have.
        n_pool: labelled rows and rows without labels, together.

    Raises:
        DataError: it cannot be read, is of another task, or names rows that there are not.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
        rows = table[ROW].to_numpy().astype(np.int64)
        weights = table[WEIGHT].to_numpy().astype(np.float32)
    except FileNotFoundError:
        raise DataError(
            f"there is no file {path}, which data.pseudo_labels names; name one, or remove the key"
        ) from None
    except (pa.ArrowInvalid, KeyError, OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as pseudo-labels: {error}; {WRITE_AGAIN}") from None
    names = tuple(name.removeprefix(TARGET) for name in table.column_names if name.startswith(TARGET))
    if names != task.labels:
        raise DataError(
            f"{path} holds targets for the labels {', '.join(names)}, and those of the training file are "
            f"{', '.join(task.labels)}; {WRITE_AGAIN}"
        )
    if len(rows) == 0 or len(set(rows.tolist())) < len(rows) or rows.min() < 0 or rows.max() >= n_pool:
        raise DataError(
            f"{path} must name some of the {n_pool} rows that data.train and data.unlabelled give, each "
            f"once, and does not; {WRITE_AGAIN}"
        )
    targets = np.stack([table[f"{TARGET}{name}"].to_numpy() for name in names], axis=1).astype(np.float32)
    if not (
        np.isfinite(targets).all() and targets.min() >= 0 and targets.max() <= 1 and (weights >= 0).all()
    ):
        raise DataError(f"{path} holds a target outside of 0 to 1 or a weight below 0; {WRITE_AGAIN}")
    return PseudoLabels(rows, targets, weights)

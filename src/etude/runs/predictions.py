"""The predictions of a run: one parquet file for each part, from which everything can be judged again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from etude.core.task import Task
from etude.errors import RunError
from etude.evaluation.scored import Scored
from etude.runs.folder import PREDICTIONS, RunFolder


def write_predictions(folder: RunFolder, part: str, scored: Scored) -> None:
    """Write ``predictions/PART.parquet``: row, text, labels, predicted, a probability for each label, logits.

    Soft targets are kept beside the labels that they stand for.
    """
    task = scored.task
    columns: dict[str, Any] = {
        "row": scored.rows,
        "text": list(scored.texts),
        "labels": task.names(scored.truth),
        "predicted": task.names(scored.decisions),
    }
    columns |= {f"p:{label}": scored.probabilities[:, c] for c, label in enumerate(task.labels)}
    columns["logits"] = _matrix(scored.logits)
    if ((scored.targets > 0) & (scored.targets < 1)).any():
        columns["targets"] = _matrix(scored.targets)
    with folder.whole_file(f"{PREDICTIONS}/{part}.parquet") as file:
        file.parent.mkdir(exist_ok=True)
        pq.write_table(pa.table(columns), file)


def read_predictions(folder: Path, part: str, task: Task) -> Scored | None:
    """Read what :func:`write_predictions` wrote; None where the run has no such part.

    Raises:
        RunError: the file is damaged, or was written for other labels.
    """
    path = folder / PREDICTIONS / f"{part}.parquet"
    if not path.exists():
        return None
    try:
        table = pq.read_table(path)
        probabilities = np.stack([table[f"p:{label}"].to_numpy() for label in task.labels], axis=1)
        logits = _from_matrix(table["logits"], task.n_classes)
    except (pa.ArrowInvalid, KeyError, OSError) as error:
        raise RunError(
            f"{path} cannot be read as predictions for {', '.join(task.labels[:3])}, ...: {error}; write it "
            f"again with: etude evaluate {folder}"
        ) from None
    truth = task.encode(table["labels"].to_pylist())
    targets = _from_matrix(table["targets"], task.n_classes) if "targets" in table.column_names else truth
    return Scored(
        task=task,
        logits=logits,
        probabilities=probabilities.astype(np.float32),
        decisions=task.encode(table["predicted"].to_pylist()) > 0,
        targets=targets,
        texts=table["text"].to_pylist(),
        rows=table["row"].to_numpy(),
    )


def _matrix(values: Any) -> pa.FixedSizeListArray:
    """A matrix (N, C) as a column of lists of C numbers."""
    flat = pa.array(np.ascontiguousarray(values, dtype=np.float32).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def _from_matrix(column: pa.ChunkedArray, n_classes: int) -> Any:
    return column.combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, n_classes)

"""``losses.parquet``: the loss of every training row in every epoch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from etude.diagnosis.evidence import RowLosses
from etude.errors import RunError
from etude.evaluation.scored import true_labels
from etude.runs.folder import RunFolder

if TYPE_CHECKING:  # reading the losses of a run that is over needs no engine
    from etude.runs.build import Run

LOSSES = "losses.parquet"
_EPOCH = "epoch_"


def losses_of(run: Run) -> RowLosses | None:
    """Return the losses of a trained run's rows, or None where it kept none.

    Epochs that the run did not come to are left out.
    """
    from etude.techniques.diagnosis.loss_history import LossHistory

    kept = [technique for technique in run.plan.techniques.values() if isinstance(technique, LossHistory)]
    if not kept:
        return None
    losses = kept[0].history.float().numpy()
    seen = np.flatnonzero(np.isfinite(losses).any(axis=0))
    if len(seen) == 0:
        return None
    task, train = run.data.task, run.data.train
    return RowLosses(
        rows=np.asarray(run.data.rows["train"]),
        losses=losses[:, : seen[-1] + 1],
        texts=run.data.texts["train"],
        labels=task.names(true_labels(task, train.targets.numpy())),
    )


def write_losses(folder: RunFolder, losses: RowLosses | None) -> None:
    """Write the losses into the run's folder: row, text, labels, and a column for each epoch."""
    if losses is None:
        return
    columns: dict[str, Any] = {"row": losses.rows}
    columns |= {"text": list(losses.texts)} if len(losses.texts) else {}
    columns |= {"labels": [list(names) for names in losses.labels]} if len(losses.labels) else {}
    columns |= {f"{_EPOCH}{e + 1}": losses.losses[:, e] for e in range(losses.losses.shape[1])}
    with folder.whole_file(LOSSES) as file:
        pq.write_table(pa.table(columns), file)


def read_losses(folder: Path) -> RowLosses | None:
    """Read what :func:`write_losses` wrote; None where the run has no such file.

    Raises:
        RunError: the file is damaged.
    """
    path = folder / LOSSES
    if not path.exists():
        return None
    try:
        table = pq.read_table(path)
        epochs = [name for name in table.column_names if name.startswith(_EPOCH)]
        losses = np.stack([table[name].to_numpy() for name in epochs], axis=1).astype(np.float32)
        return RowLosses(
            rows=table["row"].to_numpy(),
            losses=losses,
            texts=table["text"].to_pylist() if "text" in table.column_names else (),
            labels=table["labels"].to_pylist() if "labels" in table.column_names else (),
        )
    except (pa.ArrowInvalid, KeyError, OSError, ValueError) as error:
        raise RunError(
            f"{path} cannot be read: {error}; remove it to do without the losses of rows"
        ) from None

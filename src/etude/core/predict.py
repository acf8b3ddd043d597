"""Forward passes without gradients: logits and features of many examples, sorted by length."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from etude.core.examples import Examples
from etude.core.observe import Reporter
from etude.core.phases import Rows

MAX_ROWS = 512
MAX_TOKENS = 4096
"""Tokens of one forward pass; larger batches were no faster on a processor, and need more memory."""


def batches_by_length(
    lengths: NDArray[np.int64], max_tokens: int = MAX_TOKENS, max_rows: int = MAX_ROWS
) -> Iterator[Rows]:
    """Yield row numbers, longest first, in batches of at most ``max_tokens`` padded tokens.

    >>> [rows.tolist() for rows in batches_by_length(np.array([1, 3, 2, 3]), max_tokens=6)]
    [[1, 3], [2, 0]]
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        longest = max(int(lengths[order[start]]), 1)
        size = max(1, min(max_rows, max_tokens // longest))
        yield order[start : start + size]
        start += size


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put every module into evaluation mode, and each back into its own on leaving."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module in training:
            module.training = True


def predict(
    model: nn.Module,
    examples: Examples,
    accelerator: Any,
    *,
    reporter: Reporter | None = None,
    title: str = "predicting",
    features: bool = False,
) -> Tensor:
    """Return the logits (N, C) of all examples, or their features (N, D), float32 on the CPU.

    With several processes each computes its share of the batches and all receive the whole.
    """
    # The wrapper that joins processes talks in every forward pass, and some of them may have no batch.
    model = accelerator.unwrap_model(model)
    batches = list(batches_by_length(examples.lengths))
    n, rank = accelerator.num_processes, accelerator.process_index
    found: list[Tensor] = []
    with (
        evaluation_mode(model),
        (reporter or Reporter()).bar(title, sum(map(len, batches[rank::n])), "rows") as bar,
    ):
        for rows in batches[rank::n]:
            inputs = {k: v.to(accelerator.device) for k, v in examples.inputs(rows).items()}
            output = model(inputs)
            found.append((output.features if features else output.logits).float())
            bar.advance(len(rows))
    return _in_row_order(found, batches, accelerator)


def _in_row_order(found: list[Tensor], batches: list[Rows], accelerator: Any) -> Tensor:
    """Gather what the processes found, and undo the sorting."""
    n = accelerator.num_processes
    mine = torch.cat([part.cpu() for part in found]) if found else torch.empty(0)
    order = np.concatenate([rows for r in range(n) for rows in batches[r::n]])
    if n > 1:
        parts: list[Any] = [None] * n
        torch.distributed.all_gather_object(parts, mine)
        mine = torch.cat([part for part in parts if part.numel()])
    whole = torch.empty_like(mine)
    whole[torch.from_numpy(order)] = mine
    return whole


class CachedFeatures:
    """Examples whose features are known already: their inputs go straight to the head."""

    def __init__(self, examples: Examples, features: Tensor) -> None:
        self.targets = examples.targets
        self.weights = examples.weights
        self.lengths = np.ones(len(examples), dtype=np.int64)
        self._features = features

    def __len__(self) -> int:
        return len(self._features)

    def inputs(self, rows: Rows) -> dict[str, Tensor]:
        """Return the features (n, D) of some rows."""
        return {"features": self._features[torch.from_numpy(rows)]}


class Subset:
    """Some rows of examples, in the given order."""

    def __init__(self, examples: Examples, rows: Rows) -> None:
        taken = torch.from_numpy(rows)
        self.targets = examples.targets[taken]
        self.weights = examples.weights[taken]
        self.lengths = examples.lengths[rows]
        self._examples, self._rows = examples, rows

    def __len__(self) -> int:
        return len(self._rows)

    def inputs(self, rows: Rows) -> dict[str, Tensor]:
        """Return the inputs of some of the subset's rows."""
        return self._examples.inputs(self._rows[rows])

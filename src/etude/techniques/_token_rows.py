"""Rows of tokens: where a text's own words stand, and inputs made of chosen positions of each row.

Shapes: B texts, L tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Positions = NDArray[np.int64]
MASK = "attention_mask"


def real_tokens(inputs: Mapping[str, Tensor]) -> NDArray[np.bool_]:
    """Where a token is no padding: (B, L); everywhere, if the inputs have no mask."""
    mask = inputs.get(MASK)
    ids = inputs["input_ids"]
    return np.ones(tuple(ids.shape), dtype=np.bool_) if mask is None else mask.bool().cpu().numpy()


def words_of(inputs: Mapping[str, Tensor], special_ids: Sequence[int]) -> NDArray[np.bool_]:
    """Where a token is real and no special one: (B, L).

    >>> ids = torch.tensor([[101, 7, 8, 102, 0]])
    >>> words_of({"input_ids": ids, "attention_mask": (ids > 0).long()}, (101, 102)).tolist()
    [[False, True, True, False, False]]
    """
    special = np.isin(inputs["input_ids"].cpu().numpy(), np.asarray(special_ids))
    return real_tokens(inputs) & ~special


def stretches(words: NDArray[np.bool_]) -> list[Positions]:
    """The runs of word positions in one row (L,), between special tokens and padding.

    >>> [run.tolist() for run in stretches(np.array([False, True, True, False, True, False]))]
    [[1, 2], [4]]
    """
    positions = np.flatnonzero(words)
    if len(positions) == 0:
        return []
    return np.split(positions, np.flatnonzero(np.diff(positions) > 1) + 1)


def rearranged(
    inputs: Mapping[str, Tensor], rows: Sequence[Positions], pad_token_id: int
) -> dict[str, Tensor]:
    """Return inputs whose rows are the chosen positions of the old rows, padded to the longest.

    Args:
        inputs: ``input_ids`` (B, L), and others; integers of its shape follow their tokens.
        rows: for each row the old positions in their new order; a position may come again.
        pad_token_id: id of the padding token; the other inputs are padded with 0.

    Returns:
        Inputs of (B, longest of the rows); padding stands on the side where each row had it.

    >>> ids = torch.tensor([[5, 6, 7], [8, 9, 0]])
    >>> new = rearranged({"input_ids": ids, "attention_mask": (ids > 0).long()},
    ...                  [np.array([2, 0]), np.array([1])], 0)
    >>> new["input_ids"].tolist(), new["attention_mask"].tolist()
    ([[7, 5], [9, 0]], [[1, 1], [1, 0]])
    """
    ids = inputs["input_ids"]
    real = real_tokens(inputs)
    length = max(map(len, rows), default=0)
    take = np.zeros((len(rows), length), dtype=np.int64)
    filled = np.zeros((len(rows), length), dtype=np.bool_)
    for i, row in enumerate(rows):
        start = 0 if real[i, :1].all() else length - len(row)
        take[i, start : start + len(row)] = row
        filled[i, start : start + len(row)] = True
    where, empty = torch.from_numpy(take).to(ids.device), torch.from_numpy(~filled).to(ids.device)
    return {
        name: value.gather(1, where).masked_fill(empty, pad_token_id if name == "input_ids" else 0)
        if value.shape == ids.shape and not value.is_floating_point()
        else value
        for name, value in inputs.items()
    }

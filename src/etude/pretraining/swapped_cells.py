"""Swap noise on tables, with two questions: which cells were swapped, and what stood there?

Idea: a cell that comes from another row of the same column looks right by itself and wrong beside its
neighbours. Whoever finds it, or names what stood there, knows how the columns depend on each other.

Formula, with a row's M cells x and share s: each cell is drawn with probability s and then holds the cell of
another row of the macro-batch, x̃. Of the features h(x̃) a head of two layers gives

* replaced_tokens: a logit for each cell; the loss is the binary cross-entropy of "x̃ differs from x", over all
  cells
* denoise: the scaled number, or logits over a column's categories; the loss is the squared error or the
  cross-entropy, over the cells that were drawn

Paper: Rubachev et al. 2022 (2207.03208), sections 3 and 4: both objectives for tables, a share of 15 % and a
head of width 512; replaced-token detection is by Clark et al. 2020 (2003.10555), swap noise by Jahrer 2017.

NOTE[DIFF]: a number and the sign that it was missing are one cell; cells come from the rows of the
macro-batch, where the paper draws from all training rows.

Shapes: B rows, K numbers (signs of missing ones behind them), M cells, D features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from etude.backbones.tabular.model import TableBackbone
from etude.core.backbone import Backbone
from etude.core.rng import key
from etude.data.load import Data
from etude.data.table_scale import TableScale
from etude.errors import ConfigError
from etude.pretraining.pretext import Inputs, Objective, Pretext, save_under_fresh_head

DRAWN, DIFFERS = "drawn_cells", "differing_cells"
TRUE_NUMBERS, TRUE_CATEGORIES = "true_numbers", "true_categories"

NEAR = 0.5
"""A number counts as named where it lies within half a standard deviation."""


def swap_cells(
    n_rows: int, n_cells: int, share: float, rng: np.random.Generator
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Draw which cells are exchanged, and the row that each of them comes from.

    Args:
        n_rows: B.
        n_cells: M.
        share: probability that a cell is drawn.
        rng: the source of all draws.

    Returns:
        Which cells are drawn (B, M), and for every cell a row that is not its own, as far as there is
        another (B, M); where nothing is drawn, its own.

    >>> drawn, rows = swap_cells(3, 2, 0.5, np.random.default_rng(2))
    >>> drawn.tolist()
    [[True, True], [False, True], [False, False]]
    >>> rows.tolist()
    [[2, 1], [1, 2], [2, 2]]
    """
    drawn = rng.random((n_rows, n_cells)) < share
    steps = rng.integers(1, max(n_rows, 2), (n_rows, n_cells))
    own = np.arange(n_rows)[:, None]
    return drawn, np.where(drawn, (own + steps) % max(n_rows, 1), own)


def take_cells(values: Tensor, rows: NDArray[np.int64], cells: Sequence[int]) -> Tensor:
    """Return columns (B, K) whose cells come from other rows.

    Args:
        values: (B, K).
        rows: (B, M) the row of each cell.
        cells: (K,) the cell that each column belongs to.

    >>> take_cells(torch.tensor([[1, 2, 3], [4, 5, 6]]), np.array([[1, 0], [1, 1]]), [0, 1, 0]).tolist()
    [[4, 2, 6], [4, 5, 6]]
    """
    return values.gather(0, torch.from_numpy(rows[:, list(cells)]))


def cells_of(scale: TableScale) -> tuple[list[int], list[int]]:
    """The cell of each prepared number (K,), and of each column of categories."""
    n = len(scale.numbers)
    signs = [k for k, column in enumerate(scale.numbers) if column.indicator]
    return [*range(n), *signs], [n + m for m in range(len(scale.categories))]


class SwappedCellsPretext(Pretext):
    """A table backbone under a head of two layers.

    Attributes:
        n_numbers_asked: numbers that may be asked for.
        cardinalities: of the columns of categories.
    """

    inner: TableBackbone

    def __init__(self, inner: TableBackbone, d_head: int, n_out: int, scale: TableScale, seed: int) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(key(seed, "pretext"))
            head = nn.Sequential(nn.Linear(inner.d_features, d_head), nn.ReLU(), nn.Linear(d_head, n_out))
        super().__init__(inner, head)
        self.n_numbers_asked, self.cardinalities = len(scale.numbers), scale.cardinalities

    def judge(self, layers: tuple[Tensor, ...], inputs: Inputs) -> Tensor:
        found = self.head(self.inner.pool(layers, inputs)).float()
        losses, asked, right = self.questions(found, inputs)
        asked = asked.to(losses.dtype)
        each = (losses * asked, asked, asked * right.to(losses.dtype))
        return torch.stack([part.sum(dim=1) for part in each], dim=1)

    def questions(self, found: Tensor, inputs: Inputs) -> tuple[Tensor, Tensor, Tensor]:
        """Map the head's output to the loss of each cell, whether it is asked for, whether it is right."""
        raise NotImplementedError

    def save(self, folder: Path, metadata: Mapping[str, Any]) -> None:
        save_under_fresh_head(self.inner, self.inner.d_features, folder, metadata)


class ReplacedTokensPretext(SwappedCellsPretext):
    """Says of each cell whether it was replaced."""

    def questions(self, found: Tensor, inputs: Inputs) -> tuple[Tensor, Tensor, Tensor]:
        differs = inputs[DIFFERS]
        losses = F.binary_cross_entropy_with_logits(found, differs.to(found.dtype), reduction="none")
        return losses, torch.ones_like(differs), (found > 0) == differs


class DenoisePretext(SwappedCellsPretext):
    """Says what stood in each cell that was drawn."""

    def questions(self, found: Tensor, inputs: Inputs) -> tuple[Tensor, Tensor, Tensor]:
        n = self.n_numbers_asked
        losses: list[Tensor] = []
        right: list[Tensor] = []
        if n:
            wrong = found[:, :n] - inputs[TRUE_NUMBERS][:, :n]
            losses.append(wrong.square())
            right.append(wrong.abs() < NEAR)
        at = n
        for m, cardinality in enumerate(self.cardinalities):
            logits, true = found[:, at : at + cardinality], inputs[TRUE_CATEGORIES][:, m]
            losses.append(F.cross_entropy(logits, true, reduction="none")[:, None])
            right.append((logits.argmax(dim=1) == true)[:, None])
            at += cardinality
        return torch.cat(losses, dim=1), inputs[DRAWN], torch.cat(right, dim=1)


class _SwappedCells(Objective):
    """What both objectives share: the swap noise."""

    def _see(self, backbone: Backbone, data: Data) -> tuple[TableBackbone, TableScale]:
        table, scale = cast("TableBackbone", backbone), data.fitted.scale
        self._numbers, self._categories = cells_of(scale)
        self._n_cells = len(scale.numbers) + len(scale.categories)
        if self._n_cells < 2:
            raise ConfigError(
                f"pretrain.objective = {self.name!r} exchanges cells of columns and the table has "
                f"{self._n_cells} column(s) of numbers and categories; add columns"
            )
        return table, scale

    def spoil(self, inputs: Inputs, rng: np.random.Generator) -> tuple[dict[str, Tensor], Tensor]:
        parts = {"numbers": self._numbers, "categories": self._categories}
        there = {name: cells for name, cells in parts.items() if name in inputs}
        n_rows = len(next(iter(inputs[name] for name in there)))
        drawn, rows = swap_cells(n_rows, self._n_cells, self.share, rng)
        differs = torch.zeros(n_rows, self._n_cells, dtype=torch.bool)
        changed = dict(inputs)
        for name, cells in there.items():
            changed[name] = take_cells(inputs[name], rows, cells)
            where = torch.tensor(cells).expand(n_rows, -1)
            unlike = (changed[name] != inputs[name]).to(torch.int64)
            differs |= torch.zeros(n_rows, self._n_cells, dtype=torch.int64).scatter_add(1, where, unlike) > 0
            changed[TRUE_NUMBERS if name == "numbers" else TRUE_CATEGORIES] = inputs[name]
        changed[DRAWN], changed[DIFFERS] = torch.from_numpy(drawn), differs
        return changed, self.count(changed)

    def count(self, inputs: Inputs) -> Tensor:
        """How many cells each row is asked about: (B,)."""
        raise NotImplementedError


class ReplacedTokens(_SwappedCells):
    """Replaced-token detection."""

    name: ClassVar[str] = "replaced_tokens"

    def wrap(self, backbone: Backbone, data: Data, seed: int) -> Pretext:
        table, scale = self._see(backbone, data)
        return ReplacedTokensPretext(table, self.settings.head, self._n_cells, scale, seed)

    def count(self, inputs: Inputs) -> Tensor:
        return torch.full((len(inputs[DIFFERS]),), float(self._n_cells))


class Denoise(_SwappedCells):
    """Reconstruction of swapped cells."""

    name: ClassVar[str] = "denoise"

    def wrap(self, backbone: Backbone, data: Data, seed: int) -> Pretext:
        table, scale = self._see(backbone, data)
        n_out = len(scale.numbers) + sum(scale.cardinalities)
        return DenoisePretext(table, self.settings.head, n_out, scale, seed)

    def count(self, inputs: Inputs) -> Tensor:
        return inputs[DRAWN].sum(dim=1).float()

"""Networks that see a row as one vector: MLP and ResNet.

Gorishniy et al. 2021, "Revisiting Deep Learning Models for Tabular Data", arXiv 2106.11959. Categories are
vectors side by side with the numbers (their section 3.1 and the authors' code).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from etude.backbones.dropout import DropoutKeys
from etude.backbones.tabular.embeddings import CategoryEmbedding
from etude.backbones.tabular.inputs import Network, Sizes, modules_of, number_embedding
from etude.backbones.tabular.layers import LinearBlock, ResidualBlock, RowBatchNorm, flat


class _OneVector(Network):
    """Numbers and categories as one vector (B, D)."""

    def __init__(self, sizes: Sizes, settings: Mapping[str, Any]) -> None:
        super().__init__()
        d, m = settings["d_embedding"], len(sizes.cardinalities)
        self.numbers = number_embedding(sizes, settings, d, bare=False)
        self.categories = CategoryEmbedding(sizes.cardinalities, d, bias=False) if m else None
        width = sizes.n_numbers if self.numbers is None else sizes.n_numbers * d
        self.d_in = width + m * d

    def embed(self, inputs: Mapping[str, Tensor]) -> Tensor:
        numbers, categories = inputs.get("numbers"), inputs.get("categories")
        if self.numbers is not None and numbers is not None:
            numbers = self.numbers(numbers)
        return flat(numbers, None if self.categories is None else self.categories(categories))

    def _embeddings(self) -> list[tuple[str, nn.Module]]:
        there = [module for module in (self.numbers, self.categories) if module is not None]
        return [("embeddings", modules_of(*there))] if there else []


class MLP(_OneVector):
    """``Linear`` after ``Dropout(ReLU(Linear))``, several times: arXiv 2106.11959, section 3.1."""

    def __init__(self, sizes: Sizes, settings: Mapping[str, Any], keys: DropoutKeys) -> None:
        super().__init__(sizes, settings)
        n, d = settings["n_blocks"], settings["d_block"]
        widths = [self.d_in, *[d] * (n - 1)]
        self.blocks = nn.ModuleList(
            LinearBlock(width, d, settings["activation"], settings["dropout"], keys) for width in widths
        )
        self.d_out = d

    def layers(self, embedding: Tensor, *, whole: bool) -> list[Tensor]:
        found = [embedding]
        for block in self.blocks:
            found.append(block(found[-1]))
        return found[1:]

    def finish(self, last: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        return last

    def parts(self) -> list[tuple[str, nn.Module]]:
        return [*self._embeddings(), *((f"layer.{i}", block) for i, block in enumerate(self.blocks))]


class ResNet(_OneVector):
    """Residual blocks with BatchNorm, then ``ReLU(BatchNorm(x))``: arXiv 2106.11959, section 3.2."""

    def __init__(self, sizes: Sizes, settings: Mapping[str, Any], keys: DropoutKeys) -> None:
        super().__init__(sizes, settings)
        d = settings["d_block"]
        self.first = nn.Linear(self.d_in, d)
        self.blocks = nn.ModuleList(
            ResidualBlock(
                d,
                round(d * settings["d_hidden_factor"]),
                activation=settings["activation"],
                dropout=settings["dropout"],
                residual_dropout=settings["residual_dropout"],
                keys=keys,
            )
            for _ in range(settings["n_blocks"])
        )
        self.norm = RowBatchNorm(d)
        self.d_out = d

    def layers(self, embedding: Tensor, *, whole: bool) -> list[Tensor]:
        found = [self.first(embedding)]
        for block in self.blocks:
            found.append(block(found[-1]))
        return found[1:]

    def finish(self, last: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        normed: Tensor = self.norm(last)
        return normed.relu()

    def parts(self) -> list[tuple[str, nn.Module]]:
        embeddings = modules_of(self.numbers, self.categories, self.first)
        *layers, last = [(f"layer.{i}", block) for i, block in enumerate(self.blocks)]
        return [("embeddings", embeddings), *layers, (last[0], nn.ModuleList([last[1], self.norm]))]

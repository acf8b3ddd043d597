"""Networks that see a row as tokens: FT-Transformer and TabTransformer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from etude.backbones.dropout import DropoutKeys
from etude.backbones.tabular.embeddings import CategoryEmbedding, spread
from etude.backbones.tabular.inputs import Network, Sizes, modules_of, number_embedding, rates
from etude.backbones.tabular.layers import LinearBlock, TransformerBlock, flat


class FTTransformer(Network):
    """A token for each column and one, [CLS], from which is predicted.

    Gorishniy et al. 2021, arXiv 2106.11959, section 3.3: feature tokenizer with a bias for each column,
    pre-norm blocks of which the first one's attention has no norm, ReGLU in the feed-forward layers, and
    ``Linear(ReLU(LayerNorm(cls)))``, of which the linear layer is the head.
    """

    has_tokens: ClassVar[bool] = True

    def __init__(self, sizes: Sizes, settings: Mapping[str, Any], keys: DropoutKeys) -> None:
        super().__init__()
        d, m = settings["d_block"], len(sizes.cardinalities)
        self.cls = nn.Parameter(torch.empty(d))
        spread(self.cls, d)
        self.numbers = number_embedding(sizes, settings, d, bare=True)
        self.categories = CategoryEmbedding(sizes.cardinalities, d, bias=True) if m else None
        self.blocks = _blocks(settings, keys)
        self.norm = nn.LayerNorm(d) if settings["norm"] == "pre" else nn.Identity()
        self.d_out = d

    def embed(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Map the inputs to tokens (B, 1 + K + M, D), [CLS] being the first."""
        tokens = []
        if self.numbers is not None:
            tokens.append(self.numbers(inputs["numbers"]))
        if self.categories is not None:
            tokens.append(self.categories(inputs["categories"]))
        cls = self.cls.expand(len(tokens[0]), 1, -1)
        return torch.cat([cls.to(tokens[0].dtype), *tokens], dim=1)

    def layers(self, embedding: Tensor, *, whole: bool) -> list[Tensor]:
        found = [embedding]
        *blocks, last = self.blocks
        for block in blocks:
            found.append(block(found[-1]))
        # From the last block on only [CLS] counts; who listens to a block expects all of its tokens.
        alone = not whole and not last._forward_hooks
        found.append(last(found[-1], 1) if alone else last(found[-1]))
        return found[1:]

    def finish(self, last: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        """Map tokens (B, L, D), or what a pooler made of them (B, D), to the features (B, D)."""
        normed: Tensor = self.norm(last[:, 0] if last.ndim == 3 else last)
        return normed.relu()

    def parts(self) -> list[tuple[str, nn.Module]]:
        *layers, last = [(f"layer.{i}", block) for i, block in enumerate(self.blocks)]
        return [
            ("embeddings", modules_of(self.cls, self.numbers, self.categories)),
            *layers,
            (last[0], nn.ModuleList([last[1], self.norm])),
        ]


class TabTransformer(Network):
    """Categories as tokens that see each other, and an MLP over them and the numbers.

    Huang et al. 2020, arXiv 2012.06678, section 2: a column's identifier takes an eighth of each vector,
    post-norm blocks make the vectors contextual, and these join the layer-normed numbers in an MLP of the
    widths 4 l and 2 l, l being what goes in (appendix B). Without categories it is that MLP alone.
    """

    def __init__(self, sizes: Sizes, settings: Mapping[str, Any], keys: DropoutKeys) -> None:
        super().__init__()
        d, m, k = settings["d_block"], len(sizes.cardinalities), sizes.n_numbers
        self.categories = self.columns = None
        self.blocks = nn.ModuleList()
        if m:
            d_column = d // 8
            self.categories = CategoryEmbedding(sizes.cardinalities, d - d_column, bias=False)
            self.columns = nn.Parameter(torch.empty(m, d_column))
            spread(self.columns, d)
            self.blocks = _blocks(settings, keys)
            self.n_beside = k
        self.numbers = number_embedding(sizes, settings, settings["d_embedding"], bare=False)
        self.norm = nn.LayerNorm(k) if k else None
        width = m * d + (k if self.numbers is None else k * settings["d_embedding"])
        # The transformer's feed-forward layers may be gated; the MLP over it has the plain activation.
        plain = {"reglu": "relu", "geglu": "gelu"}.get(settings["activation"], settings["activation"])
        self.mlp = nn.Sequential(
            LinearBlock(width, 4 * width, plain, settings["dropout"], keys),
            LinearBlock(4 * width, 2 * width, plain, settings["dropout"], keys),
        )
        self.d_out = 2 * width

    def embed(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Map the inputs to tokens (B, M, D); without categories these are the numbers (B, K)."""
        if self.categories is None or self.columns is None:
            return inputs["numbers"]
        tokens = self.categories(inputs["categories"])
        return torch.cat([self.columns.expand(len(tokens), -1, -1), tokens], dim=-1)

    def layers(self, embedding: Tensor, *, whole: bool) -> list[Tensor]:
        found = [embedding]
        for block in self.blocks:
            found.append(block(found[-1]))
        return found[1:] or found

    def finish(self, last: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        if self.categories is None:
            joined = flat(self._beside(last))
        else:
            joined = flat(last, self._beside(inputs.get("numbers")))
        features: Tensor = self.mlp(joined)
        return features

    def _beside(self, numbers: Tensor | None) -> Tensor | None:
        """The numbers (B, K) as they enter the MLP."""
        if numbers is None or self.norm is None:
            return None
        normed: Tensor = self.norm(numbers)
        return normed if self.numbers is None else self.numbers(normed)

    def parts(self) -> list[tuple[str, nn.Module]]:
        front = [("embeddings", modules_of(self.columns, self.categories))] if self.blocks else []
        layers = [(f"layer.{i}", block) for i, block in enumerate(self.blocks)]
        return [*front, *layers, ("mlp", modules_of(self.norm, self.numbers, self.mlp))]


def _blocks(settings: Mapping[str, Any], keys: DropoutKeys) -> nn.ModuleList:
    d = settings["d_block"]
    return nn.ModuleList(
        TransformerBlock(
            d,
            settings["n_heads"],
            int(d * settings["d_hidden_factor"]),
            activation=settings["activation"],
            norm=settings["norm"],
            first=i == 0,
            **rates(settings, keys),
        )
        for i in range(settings["n_blocks"])
    )

"""What all networks over tables share: the sizes of their inputs, and the embedding of numbers by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from etude.backbones.dropout import DropoutKeys
from etude.backbones.tabular.embeddings import (
    LinearEmbedding,
    PeriodicEmbedding,
    PiecewiseLinearEmbedding,
)


@dataclass(frozen=True)
class Sizes:
    """The sizes of the inputs.

    Attributes:
        n_numbers: numbers of a row.
        cardinalities: codes of each column of categories.
        n_bins: bins of the piecewise-linear embedding, as far as the training rows fill them.
    """

    n_numbers: int
    cardinalities: tuple[int, ...]
    n_bins: int = 1


class Network(nn.Module):
    """Base of the networks: from the inputs of a batch to features.

    Attributes:
        d_out: width of the features.
        n_beside: numbers that join behind the embedding.
        has_tokens: whether layers give a vector for each part of the input, (B, L, D).
    """

    d_out: int
    n_beside: int = 0
    has_tokens: ClassVar[bool] = False

    def embed(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Map the inputs to (B, D) or (B, L, D)."""
        raise NotImplementedError(f"{type(self).__name__} lacks embed")

    def layers(self, embedding: Tensor, *, whole: bool) -> list[Tensor]:
        """Map the embedding to what each block gives; without ``whole`` only what the features need."""
        raise NotImplementedError(f"{type(self).__name__} lacks layers")

    def finish(self, last: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        """Map the last block's (B, D), or (B, L, D), to the features (B, d_out)."""
        raise NotImplementedError(f"{type(self).__name__} lacks finish")

    def parts(self) -> list[tuple[str, nn.Module]]:
        """Named parts from the input on, that hold every parameter once."""
        raise NotImplementedError(f"{type(self).__name__} lacks parts")


def number_embedding(sizes: Sizes, settings: Mapping[str, Any], d: int, *, bare: bool) -> nn.Module | None:
    """Return the embedding of numbers that the settings name, or none.

    Args:
        sizes: of the inputs.
        settings: of the network.
        d: width of a vector.
        bare: whether a linear embedding is the last thing in front of the first block, as the tokenizer of
            FT-Transformer; elsewhere ReLU follows, as without it the next linear layer would undo it.
    """
    kind, k = settings["numeric_embedding"], sizes.n_numbers
    if k == 0 or kind == "none":
        return None
    if kind == "linear":
        return LinearEmbedding(k, d, activation=not bare)
    if kind == "periodic":
        return PeriodicEmbedding(k, d, settings["n_frequencies"], settings["frequency_scale"])
    return PiecewiseLinearEmbedding(k, d, sizes.n_bins)


def modules_of(*modules: nn.Module | nn.Parameter | None) -> nn.Module:
    """Return the modules and parameters that there are as one module."""
    found: Sequence[nn.Module] = [
        nn.ParameterList([module]) if isinstance(module, nn.Parameter) else module
        for module in modules
        if module is not None
    ]
    return nn.ModuleList(found)


def rates(settings: Mapping[str, Any], keys: DropoutKeys) -> dict[str, Any]:
    """The dropout rates and the keys, as the blocks of a transformer take them."""
    names = ("dropout", "attention_dropout", "residual_dropout")
    return {**{name: settings[name] for name in names}, "keys": keys}

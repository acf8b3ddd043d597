"""Heads: from the pooled features (B, D) to the logits (B, C).

Fresh weights are normal with the architecture's standard deviation (0.02 where it names none) and fresh
biases are zero, drawn from a generator of the seed alone: the same head whatever else was drawn.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from etude.backbones.dropout import DropoutKeys, KeyedDropout
from etude.core.rng import torch_generator
from etude.errors import ConfigError


class LinearHead(nn.Module):
    """Dropout and one linear layer."""

    def __init__(
        self, d_in: int, n_classes: int, dropout: float, keys: DropoutKeys, *, bias: bool = True
    ) -> None:
        super().__init__()
        self.dropout = KeyedDropout(dropout, keys)
        self.out = nn.Linear(d_in, n_classes, bias=bias)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, D) to (B, C), in float32 under autocast too: it is cheap, and logits deserve it."""
        with torch.autocast(features.device.type, enabled=False):
            logits: Tensor = self.out(self.dropout(features.to(self.out.weight.dtype)))
        return logits

    @classmethod
    def around(cls, layer: nn.Linear, dropout: float) -> LinearHead:
        """Return a head whose linear layer is the given one."""
        head = cls(1, 1, dropout, DropoutKeys())
        head.out = layer
        return head


class MLPHead(nn.Module):
    """Dropout, a dense layer with tanh, dropout, and a linear layer."""

    def __init__(self, d_in: int, n_classes: int, dropout: float, keys: DropoutKeys) -> None:
        super().__init__()
        self.dropout = KeyedDropout(dropout, keys)
        self.dense = nn.Linear(d_in, d_in)
        self.inner_dropout = KeyedDropout(dropout, keys)
        self.out = nn.Linear(d_in, n_classes)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, D) to (B, C), in float32 under autocast too."""
        with torch.autocast(features.device.type, enabled=False):
            inner = torch.tanh(self.dense(self.dropout(features.to(self.out.weight.dtype))))
            logits: Tensor = self.out(self.inner_dropout(inner))
        return logits


class NativeHead(nn.Module):
    """What an architecture's own classifier does after its network: pooler, dense layers, classifier.

    It is the classifier of transformers itself with the network under it taken out. A text is one token
    long up here: the features are those of the token that the architecture looks at.
    """

    def __init__(self, classifier: Any) -> None:
        super().__init__()
        network = classifier.base_model
        pooler = getattr(network, "pooler", None)
        if pooler is not None:
            network.pooler = None
        setattr(classifier, classifier.base_model_prefix, _Pooled(pooler))
        self.classifier = classifier

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, D) to (B, C)."""
        logits: Tensor = self.classifier(inputs_embeds=features[:, None, :]).logits
        return logits


class _Outputs(SimpleNamespace):
    """The outputs of a network, by name and by position."""

    def __getitem__(self, index: int) -> Any:
        return (self.last_hidden_state, self.pooler_output)[index]


class _Pooled(nn.Module):
    """Stands where the network was: hands on the features that are known already, pooled."""

    def __init__(self, pooler: nn.Module | None) -> None:
        super().__init__()
        self.pooler = pooler

    def forward(self, *args: Any, inputs_embeds: Tensor, **kwargs: Any) -> _Outputs:
        pooled = self.pooler(inputs_embeds) if self.pooler is not None else None
        return _Outputs(
            last_hidden_state=inputs_embeds, pooler_output=pooled, hidden_states=None, attentions=None
        )


def make_head(
    kind: str, d_in: int, n_classes: int, dropout: float, keys: DropoutKeys, *, bias: bool = True
) -> nn.Module:
    """Return a head of a kind (``linear`` or ``mlp``) with torch's own first weights.

    ``bias`` is that of the linear head.

    Raises:
        ConfigError: there is no such head.
    """
    if kind not in ("linear", "mlp"):
        raise ConfigError(f"backbone.head = {kind!r} is unknown; use 'linear' or 'mlp'")
    # Weights are drawn by `draw_fresh` or read from a file afterwards.
    with torch.random.fork_rng(devices=[]):
        if kind == "linear":
            return LinearHead(d_in, n_classes, dropout, keys, bias=bias)
        return MLPHead(d_in, n_classes, dropout, keys)


def draw_fresh(parameters: Iterable[tuple[str, nn.Parameter]], seed: int, std: float) -> None:
    """Draw first weights: matrices normal with ``std``, biases zero, norms' scales one.

    Every parameter has a generator of its own, of the seed and its name.
    """
    with torch.no_grad():
        for name, value in parameters:
            if value.ndim > 1:
                drawn = torch.randn(value.shape, generator=torch_generator(seed, "head", name))
                value.copy_(drawn * std)
            elif name.endswith("bias"):
                value.zero_()
            else:
                value.fill_(1.0)

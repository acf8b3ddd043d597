"""The base of backbones whose dropout draws from keys, so that a replayed pass sees the same masks."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from etude.backbones.dropout import DropoutKeys, key_dropout_layers
from etude.core.backbone import Backbone


class KeyedBackbone(Backbone):
    """A backbone with one source of keys for all of its dropout, that of new heads and poolers too."""

    def __init__(self, keys: DropoutKeys) -> None:
        super().__init__()
        self._keys = keys

    def put_head(self, head: nn.Module) -> None:
        key_dropout_layers(head, self._keys)
        super().put_head(head)

    def put_pooler(self, pooler: nn.Module) -> None:
        key_dropout_layers(pooler, self._keys)
        super().put_pooler(pooler)

    def key_randomness(self, key: int) -> None:
        self._keys.set(key)

    def replay_randomness(self) -> Callable[[], None]:
        others, own = super().replay_randomness(), self._keys.replay()

        def go_back() -> None:
            others()
            own()

        return go_back

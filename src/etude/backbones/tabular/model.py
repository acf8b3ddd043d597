"""The table backbone: one of the networks, a head, and a text backbone beside it where there are texts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from etude.backbones.dropout import DropoutKeys, key_dropout_layers
from etude.backbones.heads import LinearHead
from etude.backbones.keyed import KeyedBackbone
from etude.backbones.model_folder import write_model_folder
from etude.backbones.saved_heads import described, head_form
from etude.backbones.tabular.inputs import Network, Sizes
from etude.backbones.tabular.layers import TransformerBlock
from etude.backbones.tabular.plain import MLP, ResNet
from etude.backbones.tabular.transformers import FTTransformer, TabTransformer
from etude.core.backbone import Backbone

NETWORKS: Mapping[str, Callable[[Sizes, Mapping[str, Any], DropoutKeys], Network]] = {
    "mlp": MLP, "resnet": ResNet, "ft_transformer": FTTransformer, "tab_transformer": TabTransformer
}  # fmt: skip
MODEL_TYPE, TEXT = "etude-table", "text"


class TableBackbone(KeyedBackbone):
    """A network over the columns of a table, and a head.

    Inputs are ``numbers`` (B, K) of float32 and ``categories`` (B, M) of int64, as far as there are any;
    with a text backbone beside it also that one's tokens.

    Attributes:
        network: the network under the head.
        settings: what it is made of, plain JSON.
        sizes: of its inputs.
        text: the backbone that reads texts, whose features stand behind the network's; or none.
    """

    capabilities: ClassVar[frozenset[str]] = frozenset({"dropout", "linear_head"})
    mixable = ("numbers",)

    def __init__(
        self,
        network: Network,
        head: nn.Module,
        keys: DropoutKeys,
        *,
        settings: Mapping[str, Any],
        sizes: Sizes,
        text: Backbone | None = None,
    ) -> None:
        """Put the parts together; see the class."""
        super().__init__(keys)
        self.network, self.head, self.text = network, head, text
        self.settings, self.sizes = dict(settings), sizes
        self.fingerprint = _fingerprint(sizes, text)
        can = set(self.capabilities)
        if text is None:
            # What changes columns or embeddings would leave the texts as they are, or take their tokens
            # for columns.
            can |= {"columns", "mixable", "embed"}
            self.n_numbers = network.n_beside
            if network.has_tokens:
                can.add("parts")
        else:
            key_dropout_layers(text, keys)
        if not isinstance(head, LinearHead):
            can.discard("linear_head")
        self.capabilities = frozenset(can)  # type: ignore[misc]  # of this one only

    def embed(self, inputs: Mapping[str, Tensor]) -> Tensor:
        return self.network.embed(inputs)

    def layers_from(self, embedding: Tensor, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        whole = self.gives_all_layers or self.pooler is not None
        return tuple(self.network.layers(embedding, whole=whole))

    def pool(self, layers: tuple[Tensor, ...], inputs: Mapping[str, Tensor]) -> Tensor:
        last = layers[-1]
        if self.pooler is not None:
            last = self.pooler(layers, torch.ones(last.shape[:2], dtype=torch.int64, device=last.device))
        features = self.network.finish(last, inputs)
        if self.text is None:
            return features
        return torch.cat([features, self.text.features(inputs)], dim=1)

    def blocks(self) -> list[tuple[str, nn.Module]]:
        """The text's blocks as ``text.NAME``, the network's, the pooler, the head."""
        texts = [] if self.text is None else [(f"{TEXT}.{n}", m) for n, m in self.text.blocks()[:-1]]
        pooler = [] if self.pooler is None else [("pooler", self.pooler)]
        return [*texts, *self.network.parts(), *pooler, ("head", self.head)]

    def save(self, folder: Path, metadata: Mapping[str, Any]) -> None:
        form, head = head_form(self.head)
        pooler = None if self.pooler is None else described(self.pooler)
        config = {
            "model_type": MODEL_TYPE,
            "settings": self.settings,
            "n_numbers": self.sizes.n_numbers,
            "cardinalities": list(self.sizes.cardinalities),
            "n_bins": self.sizes.n_bins,
            "n_classes": len(metadata.get("labels", ())) or 1,
            "head": form,
            "pooler": pooler,
            "d_text": 0 if self.text is None else self.d_features - self.network.d_out,
        }
        state = _named("network", self.network.state_dict()) | _named("head", head)
        if self.pooler is not None:
            state |= _named("pooler", self.pooler.state_dict())

        def add(partial: Path) -> None:
            (partial / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
            if self.text is not None:
                d_text = self.d_features - self.network.d_out
                with _headed(self.text, d_text, len(metadata.get("labels", ())) or 1, self._keys):
                    self.text.save(partial / TEXT, {"techniques": metadata.get("techniques", [])})

        write_model_folder(folder, state, metadata, add)

    @property
    def is_post_norm(self) -> bool:
        """Whether it is a transformer whose norms stand behind the sums."""
        blocks = (m for m in self.network.modules() if isinstance(m, TransformerBlock))
        return any(not block.pre for block in blocks)

    @property
    def d_features(self) -> int:
        """The width of the features."""
        text = getattr(getattr(self.text, "network", None), "config", None)
        return self.network.d_out + (0 if text is None else int(text.hidden_size))


def _named(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": value for name, value in state.items()}


@contextmanager
def _headed(text: Backbone, d: int, n_classes: int, keys: DropoutKeys) -> Iterator[None]:
    """Give the text backbone a head for as long as it is saved, since its form has one."""
    bare, text.head = text.head, LinearHead(d, n_classes, 0.0, keys)
    try:
        yield
    finally:
        text.head = bare


def _fingerprint(sizes: Sizes, text: Backbone | None) -> str:
    """Names the format of the inputs: teacher and student must agree on it."""
    told = json.dumps([sizes.n_numbers, sizes.cardinalities, "" if text is None else text.fingerprint])
    return "table-" + hashlib.sha256(told.encode()).hexdigest()[:16]


def make_network(settings: Mapping[str, Any], sizes: Sizes, keys: DropoutKeys) -> Network:
    """Return the network that the settings name, with torch's first weights from its running generator."""
    return NETWORKS[settings["model"]](sizes, settings, keys)


def bins_needed(edges: Sequence[Any]) -> int:
    """The bins of the column that has most of them."""
    return max((len(edge) - 1 for edge in edges), default=1)

"""The saved model as transformers' Auto classes know it, where pooling or head are not an architecture's own.

``config.json`` says ``"model_type": "etude-text"`` and holds the network's own configuration, pooling
and head, and the name and the settings of each part that a technique has put in. Importing this module
registers nothing; :func:`register_with_transformers` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import SequenceClassifierOutput

from etude.backbones.attention import use_keyed_attention
from etude.backbones.dropout import DropoutKeys
from etude.backbones.encode import behind_prompt, encode, encode_layers, own_tokens
from etude.backbones.heads import NativeHead, make_head
from etude.backbones.pooling import POOLINGS
from etude.backbones.prefixes import hang_prefix
from etude.config.numbers import NumberScale
from etude.errors import ConfigError, DataError
from etude.parts import Head, LabelLayer, Part, Pooler, StackedHead, make_part
from etude.parts.prefix import Prefix
from etude.parts.prompt import Prompt

MODEL_TYPE = "etude-text"

P = TypeVar("P", bound=Part)


class EtudeTextConfig(PreTrainedConfig):
    """Configuration of a network with Étude's pooling and head.

    Attributes:
        network: the configuration of the network under the head.
        pooling: ``cls``, ``mean``, ``max`` or ``last``.
        head: ``linear``, ``mlp``, ``native`` for the architecture's own, or a part.
        head_dropout: drop probability in front of a linear or MLP head.
        head_bias: whether a linear head has biases.
        pooler: the part that pools in the place of ``pooling``, if there is one.
        label_layer: the part on top of the head, if there is one.
        prompt: the part in front of the embedding, if there is one.
        prefix: the part in front of the keys and values of every layer, if there is one.
        decoder: whether tokens look back only.
        numeric: the scale of the numbers beside the text, if it takes any.

    A part is ``{"name": .., "settings": ..}``, as :func:`etude.parts.make_part` takes them.
    """

    model_type = MODEL_TYPE

    def __init__(
        self,
        network: dict[str, Any] | None = None,
        pooling: str = "mean",
        head: str | dict[str, Any] = "linear",
        head_dropout: float = 0.1,
        decoder: bool = False,
        head_bias: bool = True,
        pooler: dict[str, Any] | None = None,
        label_layer: dict[str, Any] | None = None,
        prompt: dict[str, Any] | None = None,
        prefix: dict[str, Any] | None = None,
        numeric: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.network = {"model_type": "bert"} if network is None else dict(network)
        self.pooling, self.head, self.head_dropout, self.decoder = pooling, head, head_dropout, decoder
        self.head_bias, self.pooler, self.label_layer = head_bias, pooler, label_layer
        self.prompt, self.prefix = prompt, prefix
        self.numeric = numeric
        super().__init__(**kwargs)

    def network_config(self) -> Any:
        """The configuration of the network under the head."""
        settings = {name: value for name, value in self.network.items() if name != "model_type"}
        return CONFIG_MAPPING[self.network["model_type"]](**settings)

    def scale(self) -> NumberScale | None:
        """The scale of the numbers beside the text, if there are any."""
        return None if self.numeric is None else NumberScale.from_json(self.numeric)


class EtudeForSequenceClassification(PreTrainedModel):
    """A network, a pooling and a head; what ``save`` writes for every pooling but ``native``."""

    config_class = EtudeTextConfig
    base_model_prefix = "network"
    _supports_sdpa = True
    _no_split_modules = None

    def __init__(self, config: EtudeTextConfig) -> None:
        super().__init__(config)
        self.network, self.head = build_network_and_head(config)
        if config.label_layer is not None:
            self.head = StackedHead(self.head, _part_of(config.label_layer, LabelLayer, "label_layer"))
        self.pooler = None if config.pooler is None else _part_of(config.pooler, Pooler, "pooler")
        self.prompt = None if config.prompt is None else _part_of(config.prompt, Prompt, "prompt")
        self.prefix = None if config.prefix is None else _part_of(config.prefix, Prefix, "prefix")
        if self.prefix is not None:
            # Only our attention looks for a prefix.
            use_keyed_attention(self.network, DropoutKeys())
            hang_prefix(self.network, self.prefix)
        self.post_init()

    def get_input_embeddings(self) -> Any:
        """The network's word embeddings."""
        return self.network.get_input_embeddings()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        numbers: Tensor | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        """Map tokens (B, L), or embeddings (B, L, D) in their place, to logits (B, C).

        ``labels`` add a loss by ``config.problem_type``, as in transformers' own classifiers. ``numbers``
        (B, K) are those of the columns that ``config.numeric`` names, as the data hold them; NaN stands for
        one that is missing.

        Raises:
            DataError: the model takes numbers beside the text and there are none, or of other columns.
        """
        if inputs_embeds is None:
            inputs_embeds = self.get_input_embeddings()(input_ids)
        mask = attention_mask
        if mask is None:
            mask = torch.ones(inputs_embeds.shape[:2], dtype=torch.long, device=inputs_embeds.device)
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        logits = self.head(self._beside(self._pooled(inputs_embeds, mask, types), numbers))
        loss = None if labels is None else self.loss_function(labels, logits, self.config)
        return SequenceClassifierOutput(loss=loss, logits=logits)

    def _pooled(self, embedding: Tensor, mask: Tensor, types: dict[str, Tensor]) -> Tensor:
        decoder, pooler = self.config.decoder, self.pooler
        given = behind_prompt(self.prompt, embedding, mask, types)
        if pooler is not None and pooler.all_layers:
            layers = encode_layers(self.network, *given, decoder=decoder)
            pooled: Tensor = pooler([own_tokens(hidden, mask) for hidden in layers], mask)
            return pooled
        hidden = own_tokens(encode(self.network, *given, decoder=decoder), mask)
        return POOLINGS[self.config.pooling](hidden, mask) if pooler is None else pooler((hidden,), mask)

    def _beside(self, pooled: Tensor, numbers: Tensor | None) -> Tensor:
        """Put standardised numbers behind the pooled features, where the model takes any."""
        scale = self.config.scale()
        if scale is None:
            return pooled
        shape = (len(pooled), len(scale.columns))
        if numbers is None or numbers.shape != shape:
            given = "missing" if numbers is None else f"of shape {tuple(numbers.shape)}"
            raise DataError(
                f"numbers is {given} and this model takes the shape {shape}: {', '.join(scale.columns)} of "
                "each text"
            )
        # The network may be moved and rounded; the scale is applied in float64 all the same.
        scaled = torch.from_numpy(scale.apply(numbers.detach().cpu().double().numpy()))
        return torch.cat([pooled, scaled.to(pooled.device)], dim=1)


def build_network_and_head(config: EtudeTextConfig) -> tuple[Any, nn.Module]:
    """Return a network and a head with random weights, as a configuration describes them."""
    settings, keys = config.network_config(), DropoutKeys()
    if config.head == "native":
        settings.num_labels = config.num_labels
        classifier = AutoModelForSequenceClassification.from_config(settings)
        network = classifier.base_model
        return network, NativeHead(classifier)
    network = build_network(settings)
    n_numbers = 0 if config.numeric is None else len(config.numeric["columns"])
    if isinstance(config.head, str):
        return network, make_head(
            config.head, settings.hidden_size + n_numbers, config.num_labels, config.head_dropout, keys,
            bias=config.head_bias,
        )  # fmt: skip
    return network, _part_of(config.head, Head, "head")


def _part_of(described: Mapping[str, Any], kind: type[P], where: str) -> P:
    part = make_part(described["name"], described["settings"])
    if not isinstance(part, kind):
        raise ConfigError(
            f"the saved model names the part '{part.name}' as its {where}, which is no {kind.__name__}; "
            "save the model again"
        )
    return part


def build_network(config: Any) -> Any:
    """Return a network with random weights, without the pooler that a pooling of ours does not use."""
    return without_pooler(AutoModel.from_config(config))


def without_pooler(network: Any) -> Any:
    """Take the pooler out of a network that has one."""
    if getattr(network, "pooler", None) is not None:
        network.pooler = None
    return network


def register_with_transformers() -> None:
    """Let ``AutoConfig`` and ``AutoModelForSequenceClassification`` open what Étude saves."""
    AutoConfig.register(MODEL_TYPE, EtudeTextConfig, exist_ok=True)
    AutoModelForSequenceClassification.register(
        EtudeTextConfig, EtudeForSequenceClassification, exist_ok=True
    )

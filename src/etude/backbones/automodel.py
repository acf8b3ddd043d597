"""The saved model as transformers' Auto classes know it, where pooling or head are not an architecture's own.

``config.json`` says ``"model_type": "etude-text"`` and holds the network's own configuration, pooling
and head. Importing this module registers nothing; :func:`register_with_transformers` does.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import SequenceClassifierOutput

from etude.backbones.dropout import DropoutKeys
from etude.backbones.encode import encode
from etude.backbones.heads import make_head
from etude.backbones.pooling import POOLINGS

MODEL_TYPE = "etude-text"


class EtudeTextConfig(PreTrainedConfig):
    """Configuration of a network with Étude's pooling and head.

    Attributes:
        network: the configuration of the network under the head.
        pooling: ``cls``, ``mean``, ``max`` or ``last``.
        head: ``linear`` or ``mlp``.
        head_dropout: drop probability in front of the head.
        decoder: whether tokens look back only.
    """

    model_type = MODEL_TYPE

    def __init__(
        self,
        network: dict[str, Any] | None = None,
        pooling: str = "mean",
        head: str = "linear",
        head_dropout: float = 0.1,
        decoder: bool = False,
        **kwargs: Any,
    ) -> None:
        self.network = {"model_type": "bert"} if network is None else dict(network)
        self.pooling, self.head, self.head_dropout, self.decoder = pooling, head, head_dropout, decoder
        super().__init__(**kwargs)

    def network_config(self) -> Any:
        """The configuration of the network under the head."""
        settings = {name: value for name, value in self.network.items() if name != "model_type"}
        return CONFIG_MAPPING[self.network["model_type"]](**settings)


class EtudeForSequenceClassification(PreTrainedModel):
    """A network, a pooling and a head; what ``save`` writes for every pooling but ``native``."""

    config_class = EtudeTextConfig
    base_model_prefix = "network"
    _supports_sdpa = True
    _no_split_modules = None

    def __init__(self, config: EtudeTextConfig) -> None:
        super().__init__(config)
        network_config = config.network_config()
        self.network = build_network(network_config)
        self.head = make_head(
            config.head, network_config.hidden_size, config.num_labels, config.head_dropout, DropoutKeys()
        )
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
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        """Map tokens (B, L), or embeddings (B, L, D) in their place, to logits (B, C).

        ``labels`` add a loss by ``config.problem_type``, as in transformers' own classifiers.
        """
        if inputs_embeds is None:
            inputs_embeds = self.get_input_embeddings()(input_ids)
        mask = attention_mask
        if mask is None:
            mask = torch.ones(inputs_embeds.shape[:2], dtype=torch.long, device=inputs_embeds.device)
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        hidden = encode(self.network, inputs_embeds, mask, types, decoder=self.config.decoder)
        logits = self.head(POOLINGS[self.config.pooling](hidden, mask))
        loss = None if labels is None else self.loss_function(labels, logits, self.config)
        return SequenceClassifierOutput(loss=loss, logits=logits)


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

"""Transformer head: fresh encoder layers on top of the network, made for the task.

Idea: the last layers of a pre-trained network are made for its pre-training task. A fresh layer or two
on top, or in the place of layers that were cut off, let the tokens exchange what the task needs.

Formula, with token features h (B, L, D), n layers, attention over the real tokens only:

* h ← h + dropout(attention(norm(h))), h ← h + dropout(V dropout(gelu(W norm(h) + b)) + c), n times
* features: the mean, maximum, first or last of norm(h) over the real tokens

Paper: Vaswani et al. 2017 (1706.03762), section 3.1; the norm in front of each part: Xiong et al. 2020
(2002.04745), section 3.

When it helps: frozen backbones, or ones cut to their first layers; decoders, whose tokens have
looked back only: these layers look at both sides.
When not: full fine-tuning with little data; a fresh layer has millions of weights.

Suggested values: 1 layer, as wide inside as 4 D, 8 heads, dropout 0.1.

Cost: as one layer of the network, for each layer.

Clashes: another pooler; linear_probe, whose features would be those of a network of random weights.
"""

from __future__ import annotations

from typing import Literal

from etude.config.fields import SearchRange, setting
from etude.core.phases import MODEL
from etude.core.plan import Plan
from etude.core.technique import Facts, Technique, TechniqueConfig
from etude.parts import transformer_head as part
from etude.parts.placing import ONE_POOLER, POOLER_RANK, fresh, pooling_by, token_width


class TransformerHeadConfig(TechniqueConfig):
    """Settings of the transformer head."""

    name: Literal["transformer_head"] = "transformer_head"
    layers: int = setting(1, help="fresh encoder layers", ge=1, le=24, search=SearchRange(1, 4))
    heads: int = setting(8, help="attention heads; they divide the width of the features", ge=1, le=256)
    hidden: int | None = setting(
        None, help="width inside the feed-forward layers; 4 times the features' by default", ge=1, le=65536
    )
    tokens: Literal["mean", "cls", "last", "max"] = setting(
        "mean", help="which tokens speak for the text: all, the first, the last, or the largest values"
    )
    dropout: float = setting(
        0.1, help="drop probability in the layers", ge=0.0, lt=1.0, search=SearchRange(0.0, 0.3)
    )


def transformer_pooler(
    width: int,
    layers: int = 1,
    heads: int = 8,
    hidden: int | None = None,
    tokens: str = "mean",
    dropout: float = 0.1,
    seed: int = 0,
) -> part.TransformerHead:
    """Return the pooler; it takes layers (B, L, D) and a mask (B, L) and gives (B, D).

    Args:
        width: D.
        layers: fresh encoder layers.
        heads: attention heads, which divide D.
        hidden: width inside the feed-forward layers; 4 D where it is ``None``.
        tokens: ``"mean"``, ``"cls"``, ``"last"`` or ``"max"``.
        dropout: drop probability in the layers.
        seed: of the first weights.

    Raises:
        ConfigError: ``heads`` does not divide ``width``.

    >>> import torch
    >>> pooler = transformer_pooler(8, heads=2).eval()
    >>> pooler([torch.ones(1, 3, 8)], torch.tensor([[1, 1, 0]])).shape
    torch.Size([1, 8])
    """
    return fresh(
        part.TransformerHead,
        seed,
        width=width,
        layers=layers,
        heads=heads,
        hidden=4 * width if hidden is None else hidden,
        tokens=tokens,
        dropout=dropout,
    )


class TransformerHead(Technique[TransformerHeadConfig]):
    """Puts the layers between the network and the head."""

    Config = TransformerHeadConfig
    facts = Facts(
        family="heads",
        phase=MODEL,
        paper="Vaswani et al. 2017, arXiv 1706.03762; Xiong et al. 2020, arXiv 2002.04745",
        needs=frozenset({"parts"}),
        puts_pooler=True,
        # As with any dropout, each micro-batch draws masks of its own.
        split_invariant=False,
        clashes={
            "fact:puts_pooler": ONE_POOLER,
            "linear_probe": "the probe would learn from fresh random layers; remove one of them",
        },
    )

    def attach(self, plan: Plan) -> None:
        config, context = self.config, plan.context
        width = token_width(context.backbone, self.key())
        pooler = transformer_pooler(
            width, config.layers, config.heads, config.hidden, config.tokens, config.dropout, context.seed
        )
        plan.add(MODEL, pooling_by(pooler), rank=POOLER_RANK)

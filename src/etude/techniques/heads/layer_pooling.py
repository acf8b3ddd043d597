"""Layer pooling: a learned mixture of the last layers instead of the last one alone.

Idea: middle layers know more of syntax, upper ones more of the pre-training task. A softmax over the
layers lets the training choose how much of each the head sees.

Formula, with the last k layers' features h_j (B, L, D), one number w_j for each:

* mixed = Σ_j softmax(w)_j h_j, then the mean, maximum, first or last over the real tokens
* w starts at zero, so that the first mixture is the mean of the k layers

Paper: Peters et al. 2018 (1802.05365), equation 1; Tenney et al. 2019 (1905.05950), equation 1.

When it helps: a frozen or barely trained backbone; tasks of form rather than meaning; small data, for
which the upper layers are too far specialised.
When not: full fine-tuning of many epochs, which moves into the last layer what it needs.

Suggested values: k = 4 and the mean over tokens.

Cost: 1 pass, k numbers; all layers' features stay in memory, and a faster way through the network
that gives the last one alone is not taken.

Clashes: another pooler. It goes together with linear_probe, since it starts as a plain mean.

NOTE[DIFF]: no further factor γ, which the head's own weights absorb.
"""

from __future__ import annotations

from typing import Literal

from etude.config.fields import SearchRange, setting
from etude.core.phases import MODEL
from etude.core.plan import Plan
from etude.core.technique import Facts, Technique, TechniqueConfig
from etude.parts import layer_pooling as part
from etude.parts.placing import ONE_POOLER, POOLER_RANK, fresh, n_layers, pooling_by


class LayerPoolingConfig(TechniqueConfig):
    """Settings of layer pooling."""

    name: Literal["layer_pooling"] = "layer_pooling"
    layers: int = setting(
        4,
        help="how many of the last layers; all of them where the backbone has fewer",
        ge=1,
        le=1000,
        search=SearchRange(2, 12),
    )
    tokens: Literal["mean", "cls", "last", "max"] = setting(
        "mean", help="which tokens speak for the text: all, the first, the last, or the largest values"
    )


def layer_pooler(layers: int, tokens: str = "mean") -> part.LayerPooling:
    """Return the pooler; it takes layers (B, L, D) and a mask (B, L) and gives (B, D).

    Args:
        layers: k.
        tokens: ``"mean"``, ``"cls"``, ``"last"`` or ``"max"``.

    >>> import torch
    >>> layers = [torch.full((1, 3, 2), float(i)) for i in range(4)]
    >>> layer_pooler(2)(layers, torch.tensor([[1, 1, 0]])).tolist()
    [[2.5, 2.5]]
    """
    return fresh(part.LayerPooling, 0, layers=layers, tokens=tokens)


class LayerPooling(Technique[LayerPoolingConfig]):
    """Puts the pooler between the network and the head."""

    Config = LayerPoolingConfig
    facts = Facts(
        family="heads",
        phase=MODEL,
        paper="Peters et al. 2018, arXiv 1802.05365; Tenney et al. 2019, arXiv 1905.05950",
        needs=frozenset({"parts"}),
        puts_pooler=True,
        clashes={"fact:puts_pooler": ONE_POOLER},
    )

    def attach(self, plan: Plan) -> None:
        k = min(self.config.layers, n_layers(plan.context.backbone))
        plan.add(MODEL, pooling_by(layer_pooler(k, self.config.tokens)), rank=POOLER_RANK)

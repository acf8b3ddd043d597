"""Zero head: start the head's last linear layer at zero.

Idea: a fresh head of random weights says something wrong and different about every example, and its
first gradients carry that noise into the pretrained layers. A head of zeros says the same of every
class, and leaves the layers under it alone until it has learnt something.

Formula, with the last linear layer's weight W (C, D), bias b (C,) and scale s:

* W' = s W and b' = s b before the first step; s = 0 is the zero head
* with s = 0 all logits are 0, the loss of one label for each example is log C, and the gradient
  W'^T ∂L/∂logits that reaches the features is zero in the first step

Paper: Kolesnikov et al. 2020 (1912.11370), Big Transfer, whose published code starts the head of
every transfer at zero, as big_vision by Beyer et al. 2022 does for its classifiers; small s above 0:
Liu et al. 2022 (2201.03545), appendix A.1, the head's initial scale of ConvNeXt's fine-tuning.

When it helps: fine-tuning with a large learning rate; comparing runs, since the first weights of the
head no longer depend on the seed; where the linear probe takes too long or does not suit the head.
When not: where a linear probe can give the head better first weights than none, which is the default.

Suggested values: s = 0; ConvNeXt fine-tunes with s = 0.001.

Cost: none.

Clashes: linear_probe, which gives the head its first weights too; it steps aside where it was only
recommended.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from etude.config.fields import SearchRange, setting
from etude.core.backbone import Backbone
from etude.core.phases import MODEL
from etude.core.plan import Plan
from etude.core.technique import Facts, Technique, TechniqueConfig
from etude.errors import ConflictError


class ZeroHeadConfig(TechniqueConfig):
    """Settings of the zero head."""

    name: Literal["zero_head"] = "zero_head"
    scale: float = setting(
        0.0,
        help="what the head's first weights are multiplied by; 1 leaves them",
        ge=0.0,
        le=1.0,
        search=SearchRange(0.0, 1.0),
    )


def last_linear(head: nn.Module) -> nn.Linear:
    """Return the last linear layer of a head, in the order in which its modules were made.

    Raises:
        ConflictError: it has none.

    >>> last_linear(nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3)))
    Linear(in_features=8, out_features=3, bias=True)
    """
    layers = [module for module in head.modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise ConflictError(
            f"zero_head needs a head with a linear layer and this one is a {type(head).__name__}; "
            "remove zero_head"
        )
    return layers[-1]


def scale_layer(layer: nn.Linear, scale: float) -> None:
    """Multiply the weight and the bias of a layer by a number, in place.

    Raises:
        ValueError: ``scale`` is below 0.

    >>> layer = nn.Linear(2, 1)
    >>> scale_layer(layer, 0.0)
    >>> layer.weight.tolist(), layer.bias.tolist()
    ([[0.0, 0.0]], [0.0])
    """
    if scale < 0.0:
        raise ValueError(f"scale is {scale} and must be at least 0")
    with torch.no_grad():
        for value in layer.parameters(recurse=False):
            # Zero is written, since a product keeps signs and what is not finite.
            if scale == 0.0:
                value.zero_()
            else:
                value.mul_(scale)


class ZeroHead(Technique[ZeroHeadConfig]):
    """Sets the head's last layer before the run's groups are made."""

    Config = ZeroHeadConfig
    facts = Facts(
        family="heads",
        phase=MODEL,
        paper="Kolesnikov et al. 2020, arXiv 1912.11370; Liu et al. 2022, arXiv 2201.03545",
        clashes={"linear_probe": "both give the head its first weights; remove one of them"},
        neutral={"scale": 1.0},
    )

    def attach(self, plan: Plan) -> None:
        scale = self.config.scale
        if scale == 1.0:
            return
        last_linear(plan.context.backbone.head)

        def edit(backbone: Backbone) -> Backbone:
            scale_layer(last_linear(backbone.head), scale)
            return backbone

        plan.add(MODEL, edit)

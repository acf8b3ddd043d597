"""Multi-sample dropout: average the head's logits over several dropout masks of the features.

Idea: everything under the head is computed once, and the head is cheap. Five masks on the same features
give a gradient with less of dropout's noise in it, for next to no time.

Formula, with features z (B, D), the one linear layer W (C, D), b (C,) and dropouts d_k of rate p_k:

* training: logits = 1/K Σ_k (W d_k(z) + b)
* evaluation: logits = W z + b, an ordinary linear head, and that is what is saved

Paper: Inoue 2019 (1905.09788).

When it helps: fine-tuning on little data, where runs differ much; long runs with much dropout.
When not: heads that are not linear; models that underfit.

Suggested values: K = 5 rates from 0.1 to 0.5, with hidden dropout 0.1; the same rate for all works too.

Cost: 1 pass; K masks of (B, D).

Clashes: heads that are not one linear layer. A progressive dropout sets all K rates to its own.

NOTE[DIFF]: the paper averages the K losses, and this the logits, so that any loss goes with it, as in the
solutions of Kaggle's winners.
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
from etude.parts.multi_sample_dropout import MultiSampleDropoutHead


class MultiSampleDropoutConfig(TechniqueConfig):
    """Settings of multi-sample dropout."""

    name: Literal["multi_sample_dropout"] = "multi_sample_dropout"
    samples: int = setting(5, help="dropout masks of each example", unit="masks", ge=1, le=100)
    lowest: float = setting(
        0.1, help="drop rate of the first mask", ge=0.0, lt=1.0, search=SearchRange(0.0, 0.3)
    )
    highest: float = setting(
        0.5, help="drop rate of the last mask", ge=0.0, lt=1.0, search=SearchRange(0.2, 0.7)
    )


def rates_between(lowest: float, highest: float, n: int) -> list[float]:
    """Return n drop rates, evenly from the lowest to the highest; a single one is their mean.

    Raises:
        ValueError: a rate is out of [0, 1), or n is below 1.

    >>> rates_between(0.1, 0.5, 5)
    [0.1, 0.2, 0.3, 0.4, 0.5]
    """
    for rate in (lowest, highest):
        if not 0.0 <= rate < 1.0:
            raise ValueError(f"a rate is {rate} and must lie in [0, 1)")
    if n < 1:
        raise ValueError(f"n is {n} and must be at least 1")
    if n == 1:
        return [(lowest + highest) / 2]
    return [round(lowest + (highest - lowest) * k / (n - 1), 10) for k in range(n)]


def linear_layer(head: nn.Module) -> nn.Linear:
    """Return the one linear layer of a head that is otherwise only dropout.

    Raises:
        ConflictError: the head is something else.

    >>> linear_layer(nn.Sequential(nn.Dropout(0.1), nn.Linear(8, 3)))
    Linear(in_features=8, out_features=3, bias=True)
    """
    parts = [module for module in head.modules() if not list(module.children())]
    layers = [module for module in parts if isinstance(module, nn.Linear)]
    others = [m for m in parts if not isinstance(m, (nn.Linear, nn.Dropout, nn.Identity))]
    if len(layers) != 1 or others:
        found = ", ".join(type(module).__name__ for module in parts)
        raise ConflictError(
            f"multi_sample_dropout needs a head of one linear layer and this one is made of {found}; use "
            'backbone.head = "linear", or remove multi_sample_dropout'
        )
    return layers[0]


class MultiSampleDropout(Technique[MultiSampleDropoutConfig]):
    """Puts the layer of the head under several dropouts; its weights stay as they were."""

    Config = MultiSampleDropoutConfig
    facts = Facts(
        family="regularisation",
        phase=MODEL,
        paper="Inoue 2019, arXiv 1905.09788",
        needs=frozenset({"linear_head"}),
        # As with any dropout, each micro-batch draws masks of its own.
        split_invariant=False,
    )

    def attach(self, plan: Plan) -> None:
        config = self.config
        rates = rates_between(config.lowest, config.highest, config.samples)
        linear_layer(plan.context.backbone.head)

        def edit(backbone: Backbone) -> Backbone:
            layer = linear_layer(backbone.head)
            with torch.random.fork_rng(devices=[]):  # its own first weights go at once
                head = MultiSampleDropoutHead(layer.in_features, layer.out_features, rates)
            head.out = layer
            head.train(backbone.head.training)
            backbone.put_head(head)
            return backbone

        plan.add(MODEL, edit)

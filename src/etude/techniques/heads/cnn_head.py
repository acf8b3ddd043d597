"""CNN head: look for telling phrases in the token features with convolutions.

Idea: a filter that spans a few tokens answers to a phrase wherever it stands. Each filter's largest
answer over the text says whether the phrase is there, and a linear layer brings the answers back to
the width of the features, so that any head fits on top.

Formula, with token features h (B, L, D), windows of w tokens, F filters of each width:

* answers a_lf = relu(W_f · [h_l, ..., h_(l+w-1)] + b_f) for every l that is a real token
* pooled p_f = max_l a_lf, for all filters of all widths side by side
* features = V dropout(p) + c, of width D

Paper: Kim 2014 (1408.5882), section 2.

When it helps: frozen backbones; labels that hang on phrases, anywhere in a long text.
When not: full fine-tuning with little data, where fresh layers of 1e5 weights and more learn slowly.

Suggested values: windows 3, 4, 5 with 100 filters each and dropout 0.5, the paper's.

Cost: 1 pass and D · F · Σw weights; a few per cent of a step.

Clashes: another pooler; linear_probe, whose features would be those of a network of random filters.

NOTE[DIFF]: the paper classifies from p; here a linear layer keeps the width and the head classifies.
NOTE[DIFF]: a window begins at each real token, and zeros follow the last one, so that a text shorter
than the window has answers too; the paper pads such texts. Norms of the weights are not clipped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from etude.config.fields import SearchRange, setting
from etude.core.phases import MODEL
from etude.core.plan import Plan
from etude.core.technique import Facts, Technique, TechniqueConfig
from etude.parts import cnn_head as part
from etude.parts.placing import ONE_POOLER, POOLER_RANK, fresh, pooling_by, token_width

Window = Annotated[int, Field(ge=1, le=64)]


class CNNHeadConfig(TechniqueConfig):
    """Settings of the CNN head."""

    name: Literal["cnn_head"] = "cnn_head"
    windows: list[Window] = setting([3, 4, 5], help="tokens under a filter", unit="tokens", min_length=1)
    filters: int = setting(
        100, help="filters of each width", ge=1, le=10000, search=SearchRange(32, 512, "log")
    )
    dropout: float = setting(
        0.5, help="drop probability of the answers", ge=0.0, lt=1.0, search=SearchRange(0.0, 0.6)
    )


def cnn_pooler(
    width: int, windows: Sequence[int] = (3, 4, 5), filters: int = 100, dropout: float = 0.5, seed: int = 0
) -> part.CNNHead:
    """Return the pooler; it takes layers (B, L, D) and a mask (B, L) and gives (B, D).

    Args:
        width: D.
        windows: tokens under a filter, for each kind of filter.
        filters: filters of each kind.
        dropout: drop probability of the answers.
        seed: of the first weights.

    >>> import torch
    >>> pooler = cnn_pooler(2, windows=[2], filters=3).eval()
    >>> text, longer = torch.ones(1, 3, 2), torch.ones(1, 5, 2)
    >>> same = pooler([text], torch.ones(1, 3)) - pooler([longer], torch.tensor([[1, 1, 1, 0, 0]]))
    >>> same.abs().max().item() < 1e-6
    True
    """
    return fresh(part.CNNHead, seed, width=width, windows=list(windows), filters=filters, dropout=dropout)


class CNNHead(Technique[CNNHeadConfig]):
    """Puts the convolutions between the network and the head."""

    Config = CNNHeadConfig
    facts = Facts(
        family="heads",
        phase=MODEL,
        paper="Kim 2014, arXiv 1408.5882",
        needs=frozenset({"parts"}),
        puts_pooler=True,
        # As with any dropout, each micro-batch draws masks of its own.
        split_invariant=False,
        clashes={
            "fact:puts_pooler": ONE_POOLER,
            "linear_probe": "the probe would learn from fresh random filters; remove one of them",
        },
    )

    def attach(self, plan: Plan) -> None:
        config, context = self.config, plan.context
        width = token_width(context.backbone, self.key())
        pooler = cnn_pooler(width, config.windows, config.filters, config.dropout, context.seed)
        plan.add(MODEL, pooling_by(pooler), rank=POOLER_RANK)

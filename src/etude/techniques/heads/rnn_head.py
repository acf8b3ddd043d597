"""RNN head: read the token features in both directions with an LSTM or a GRU.

Idea: a recurrent network keeps what it has read in a state, and gates what comes in. Read from both
ends, the final states know the whole text in its order; a linear layer brings them back to the width
of the features, so that any head fits on top.

Formula, with token features h (B, L, D) and states of width H in each direction:

* forwards s_l = cell(h_l, s_(l-1)), backwards r_l = cell(h_l, r_(l+1)), over the real tokens only
* pooled p = [s_last, r_first], or the mean or maximum over l of [s_l, r_l]
* features = V dropout(p) + c, of width D

Paper: Hochreiter & Schmidhuber 1997, Long short-term memory; both directions: Graves & Schmidhuber
2005; gated recurrent units: Cho et al. 2014 (1406.1078).

When it helps: frozen backbones; labels that depend on the order of long texts.
When not: full fine-tuning of a transformer, which has read the text in both directions already.

Suggested values: an LSTM with H = D / 2, final states, dropout 0.1.

Cost: 1 pass; 8 H (D + H + 2) weights for the LSTM; token after token, hence slow for long texts.

Clashes: another pooler; linear_probe, whose features would be those of a network of random weights.
"""

from __future__ import annotations

from typing import Literal

from etude.config.fields import SearchRange, setting
from etude.core.phases import MODEL
from etude.core.plan import Plan
from etude.core.technique import Facts, Technique, TechniqueConfig
from etude.parts import rnn_head as part
from etude.parts.placing import ONE_POOLER, POOLER_RANK, fresh, pooling_by, token_width


class RNNHeadConfig(TechniqueConfig):
    """Settings of the RNN head."""

    name: Literal["rnn_head"] = "rnn_head"
    cell: Literal["lstm", "gru"] = setting("lstm", help="the kind of gates")
    hidden: int | None = setting(
        None,
        help="width of the states of each direction; half of the features' by default",
        ge=1,
        le=8192,
        search=SearchRange(32, 512, "log"),
    )
    tokens: Literal["last", "mean", "max"] = setting(
        "last", help="which states speak for the text: the final ones, or the mean or maximum of all"
    )
    dropout: float = setting(
        0.1, help="drop probability of the states", ge=0.0, lt=1.0, search=SearchRange(0.0, 0.5)
    )


def rnn_pooler(
    width: int,
    cell: str = "lstm",
    hidden: int | None = None,
    tokens: str = "last",
    dropout: float = 0.1,
    seed: int = 0,
) -> part.RNNHead:
    """Return the pooler; it takes layers (B, L, D) and a mask (B, L) and gives (B, D).

    Args:
        width: D.
        cell: ``"lstm"`` or ``"gru"``.
        hidden: H; half of D, rounded up, where it is ``None``.
        tokens: ``"last"``, ``"mean"`` or ``"max"``.
        dropout: drop probability of the states.
        seed: of the first weights.

    >>> import torch
    >>> pooler = rnn_pooler(4, cell="gru").eval()
    >>> text = torch.arange(8.0).view(1, 2, 4)
    >>> padded = torch.cat([text, torch.full((1, 3, 4), 7.0)], dim=1)
    >>> apart = pooler([text], torch.ones(1, 2)) - pooler([padded], torch.tensor([[1, 1, 0, 0, 0]]))
    >>> apart.abs().max().item()
    0.0
    """
    hidden = -(-width // 2) if hidden is None else hidden
    return fresh(part.RNNHead, seed, width=width, cell=cell, hidden=hidden, tokens=tokens, dropout=dropout)


class RNNHead(Technique[RNNHeadConfig]):
    """Puts the recurrent network between the network and the head."""

    Config = RNNHeadConfig
    facts = Facts(
        family="heads",
        phase=MODEL,
        paper="Hochreiter & Schmidhuber 1997, Neural Computation 9(8); Cho et al. 2014, arXiv 1406.1078",
        needs=frozenset({"parts"}),
        puts_pooler=True,
        # As with any dropout, each micro-batch draws masks of its own.
        split_invariant=False,
        clashes={
            "fact:puts_pooler": ONE_POOLER,
            "linear_probe": "the probe would learn from a fresh random network; remove one of them",
        },
    )

    def attach(self, plan: Plan) -> None:
        config, context = self.config, plan.context
        width = token_width(context.backbone, self.key())
        pooler = rnn_pooler(
            width, config.cell, config.hidden, config.tokens, config.dropout, context.seed
        )  # fmt: skip
        plan.add(MODEL, pooling_by(pooler), rank=POOLER_RANK)

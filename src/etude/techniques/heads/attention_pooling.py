"""Attention pooling: let the model learn which tokens speak for the text.

Idea: the mean over tokens gives a stop word the same say as the word that decides. A small network
scores each token, and the text is the mean of its tokens weighted by the softmax of the scores.

Formula, with token features h (B, L, D), W (A, D), b (A,), v_j (A,) for each of H slices of D:

* scores s_lj = v_j · tanh(W h_l + b)
* weights a_lj = exp(s_lj) / Σ_l' exp(s_l'j) over the real tokens, none for padding
* slice j of the pooled features: Σ_l a_lj h_l,slice j

Paper: Yang et al. 2016, Hierarchical attention networks (NAACL), equations 5 to 7; several weightings
at once: Lin et al. 2017 (1703.03130), section 2.1.

When it helps: long texts of which few words matter; backbones whose first token was not trained to
speak for the text; decoders.
When not: very little data; sentence encoders that were trained with another pooling.

Suggested values: H = 1; A = 128, or the width of the backbone.

Cost: 1 pass; A (D + H) weights.

Clashes: another pooler. It goes together with linear_probe, since it starts as the plain mean.

NOTE[DIFF]: v starts at zero and the paper's at random, so that pooling starts as the mean.
NOTE[DIFF]: each of H weightings pools a slice of the features, so that the width stays D; Lin et al.
put H whole vectors side by side.
"""

from __future__ import annotations

from typing import Literal

from etude.config.fields import SearchRange, setting
from etude.core.phases import MODEL
from etude.core.plan import Plan
from etude.core.technique import Facts, Technique, TechniqueConfig
from etude.parts import attention_pooling as part
from etude.parts.placing import ONE_POOLER, POOLER_RANK, fresh, pooling_by, token_width


class AttentionPoolingConfig(TechniqueConfig):
    """Settings of attention pooling."""

    name: Literal["attention_pooling"] = "attention_pooling"
    heads: int = setting(1, help="slices of the features with weights of their own", ge=1, le=256)
    hidden: int = setting(
        128, help="width of the scoring layer", ge=1, le=8192, search=SearchRange(32, 512, "log")
    )


def attention_pooler(width: int, heads: int = 1, hidden: int = 128, seed: int = 0) -> part.AttentionPooling:
    """Return the pooler; it takes layers (B, L, D) and a mask (B, L) and gives (B, D).

    Args:
        width: D.
        heads: H, which divides D.
        hidden: A.
        seed: of the first weights.

    Raises:
        ConfigError: ``heads`` does not divide ``width``.

    >>> import torch
    >>> tokens, mask = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [9.0, 9.0]]]), torch.tensor([[1, 1, 0]])
    >>> attention_pooler(2)([tokens], mask).tolist()
    [[2.0, 4.0]]
    """
    return fresh(part.AttentionPooling, seed, width=width, heads=heads, hidden=hidden)


class AttentionPooling(Technique[AttentionPoolingConfig]):
    """Puts the pooler between the network and the head."""

    Config = AttentionPoolingConfig
    facts = Facts(
        family="heads",
        phase=MODEL,
        paper="Yang et al. 2016, NAACL; Lin et al. 2017, arXiv 1703.03130",
        needs=frozenset({"parts"}),
        puts_pooler=True,
        clashes={"fact:puts_pooler": ONE_POOLER},
    )

    def attach(self, plan: Plan) -> None:
        context = plan.context
        width = token_width(context.backbone, self.key())
        pooler = attention_pooler(width, self.config.heads, self.config.hidden, context.seed)
        plan.add(MODEL, pooling_by(pooler), rank=POOLER_RANK)

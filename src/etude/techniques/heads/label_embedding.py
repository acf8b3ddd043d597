"""Label embedding: give every label a vector, and score it by its likeness to the text.

Idea: a linear head's score grows with the length of the features and of the class's weights, which
frequent classes make long. Texts and labels that meet in one space, where only the direction
counts, put rare and frequent labels on equal terms, and near labels are the nearest predictions.

Formula, with features x (B, D), a projection P (E, D), q (E,), label vectors v_c (E,), scale s and
biases b_c, all of them learned:

* z_bc = s · cos(P x_b + q, v_c) + b_c, for any loss that takes logits

Paper: Wang et al. 2018 (1805.04174), LEAM, which embeds words and labels in one space and compares
them by cosine; cosine with a learned scale as a classifier: Gidaris & Komodakis 2018 (1804.09458),
section 3.2.

When it helps: many labels, unequally frequent, or related to each other; few examples of each.
When not: two or three frequent labels, where it is a linear head with more weights.

Suggested values: E = 256; s = 10 at first, up to 30 with many labels.

Cost: 1 pass; E (D + C) weights.

Clashes: linear_probe, zero_head and multi_sample_dropout, which are about a linear head.

NOTE[DIFF]: LEAM lets the labels attend to single words and classifies the words' weighted mean; here
the text's own pooling makes the vector, and attention_pooling can be added.
NOTE[DIFF]: each label has a bias, without which one sigmoid for each label could not be rare.
"""

from __future__ import annotations

from typing import Literal

from etude.config.fields import SearchRange, setting
from etude.core.phases import MODEL
from etude.core.plan import Plan
from etude.core.technique import Facts, Technique, TechniqueConfig
from etude.parts import label_embedding as part
from etude.parts.placing import HEAD_RANK, feature_width, fresh, headed_by

_LINEAR = "it is made for a linear head, and label_embedding has none; remove one of them"


class LabelEmbeddingConfig(TechniqueConfig):
    """Settings of the label embedding."""

    name: Literal["label_embedding"] = "label_embedding"
    dim: int = setting(
        256,
        help="width of the space of texts and labels",
        ge=1,
        le=8192,
        search=SearchRange(32, 512, "log"),
    )
    scale: float = setting(
        10.0, help="what cosines are multiplied by at first", gt=0.0, le=1000.0,
        search=SearchRange(4.0, 64.0, "log"),
    )  # fmt: skip
    dropout: float = setting(
        0.1, help="drop probability of the features", ge=0.0, lt=1.0, search=SearchRange(0.0, 0.5)
    )


def label_embedding_head(
    width: int, n_classes: int, dim: int = 256, scale: float = 10.0, dropout: float = 0.1, seed: int = 0
) -> part.LabelEmbeddingHead:
    """Return the head; it maps features (B, D) to logits (B, C).

    Args:
        width: D.
        n_classes: C.
        dim: E.
        scale: s, at first.
        dropout: drop probability of the features.
        seed: of the first weights.

    >>> import torch
    >>> head = label_embedding_head(4, 3, scale=10.0).eval()
    >>> logits = head(torch.ones(2, 4))
    >>> logits.shape, bool((logits.abs() <= 10.0).all())
    (torch.Size([2, 3]), True)
    """
    return fresh(
        part.LabelEmbeddingHead,
        seed,
        width=width,
        n_classes=n_classes,
        dim=dim,
        scale=scale,
        dropout=dropout,
    )


class LabelEmbedding(Technique[LabelEmbeddingConfig]):
    """Exchanges the head."""

    Config = LabelEmbeddingConfig
    facts = Facts(
        family="heads",
        phase=MODEL,
        paper="Wang et al. 2018, arXiv 1805.04174; Gidaris & Komodakis 2018, arXiv 1804.09458",
        # As with any dropout, each micro-batch draws masks of its own.
        split_invariant=False,
        clashes={
            "linear_probe": _LINEAR,
            "zero_head": _LINEAR,
            "multi_sample_dropout": _LINEAR,
        },
    )

    def attach(self, plan: Plan) -> None:
        config, context = self.config, plan.context
        width = feature_width(context.backbone, self.key())
        head = label_embedding_head(
            width, context.task.n_classes, config.dim, config.scale, config.dropout, context.seed
        )
        plan.add(MODEL, headed_by(head), rank=HEAD_RANK)

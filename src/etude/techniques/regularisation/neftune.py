"""NEFTune: add uniform noise to the embeddings of the tokens while training.

Idea: with a little noise on every token the model cannot learn the exact words of a small data set by
heart, and keeps more of what it knew before.

Formula, with embeddings e (B, L, D), the mask m (B, L) of real tokens, l_i real tokens in row i, and
ε ~ U(-1, 1) of shape (B, L, D):
e'_i = e_i + m_i ε_i α / √(l_i D) in training, e_i in evaluation. The length of a row's noise is then about
α / √3, however long the text is.

Paper: Jain et al. 2023 (2310.05914), section 2 and algorithm 1.

When it helps: fine-tuning on little data, above all decoders.
When not: underfitting; few epochs; the paper's gains are in how well answers read, and smaller where an
answer is right or wrong.

Suggested values: α = 5, from 5 to 15.

Cost: 1 pass; no memory to speak of. Features of a frozen backbone can no longer be cached.

Clashes: none. It acts on mixed embeddings too.

Length and noise are those of real tokens, as in the authors' code. The option of that name in transformers
divides by the padded length and shakes padding too, so that a batch's longest text decides for all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from etude.config.fields import SearchRange, setting
from etude.core.backbone import Backbone, Output
from etude.core.batch import Batch
from etude.core.phases import FORWARD, ModelCall
from etude.core.plan import Plan
from etude.core.rng import Moment, key
from etude.core.technique import Facts, Technique, TechniqueConfig

MASK = "attention_mask"


class NeftuneConfig(TechniqueConfig):
    """Settings of NEFTune."""

    name: Literal["neftune"] = "neftune"
    alpha: float = setting(
        5.0, help="size of the noise", ge=0.0, le=1000.0, search=SearchRange(1.0, 15.0, "log")
    )


def add_noise(embedding: Tensor, mask: Tensor, noise: Tensor, alpha: float) -> Tensor:
    """Return the embedding with noise on real tokens, scaled by α / √(length · D).

    Args:
        embedding: (B, L, D).
        mask: (B, L), 1 where a token is real.
        noise: (B, L, D) in [-1, 1].
        alpha: α, 0 or more.

    Raises:
        ValueError: α is below 0.

    >>> mask, noise = torch.tensor([[1, 1, 0]]), torch.ones(1, 3, 2)
    >>> add_noise(torch.zeros(1, 3, 2), mask, noise, 4.0)
    tensor([[[2., 2.],
             [2., 2.],
             [0., 0.]]])
    """
    if alpha < 0.0:
        raise ValueError(f"alpha is {alpha} and must be at least 0")
    mask = mask.to(embedding.dtype)
    # A text without tokens has no noise to scale.
    size = alpha / (mask.sum(dim=1) * embedding.shape[2]).clamp_min(1.0).sqrt()
    return embedding + noise.to(embedding.dtype) * (mask * size[:, None]).unsqueeze(-1)


def draw_noise(like: Tensor, rows: list[int], moment: Moment) -> Tensor:
    """Draw numbers in [-1, 1) of the shape of ``like`` (B, L, D), for each row id from a key of its own."""
    noise = torch.empty(like.shape, device=like.device)
    for row, at in zip(rows, noise, strict=True):
        # On the embedding's own device, which is fast there, and the same for any micro-batch.
        own = torch.Generator(like.device).manual_seed(key(moment.seed, "neftune", moment.step, row))
        at.uniform_(-1.0, 1.0, generator=own)
    return noise


class Neftune(Technique[NeftuneConfig]):
    """Adds the noise inside the model's call of a step."""

    Config = NeftuneConfig
    facts = Facts(
        family="regularisation",
        phase=FORWARD,
        paper="Jain et al. 2023, arXiv 2310.05914",
        needs=frozenset({"embed"}),
        changes_inputs=True,
        neutral={"alpha": 0.0},
    )

    def attach(self, plan: Plan) -> None:
        alpha = self.config.alpha
        if alpha == 0.0:
            return

        def forward(call: ModelCall, batch: Batch, moment: Moment) -> Output:
            rows = batch.index.tolist()

            def shake(backbone: Backbone, embedding: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
                mask = inputs.get(MASK, embedding.new_ones(embedding.shape[:2]))
                return add_noise(embedding, mask, draw_noise(embedding, rows, moment), alpha)

            return call(batch, shake)

        plan.add(FORWARD, forward)

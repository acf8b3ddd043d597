"""Token cutout: replace some tokens by the mask token, different ones at every step.

Idea: if any word may be missing, the model has to find the label in the rest of the text as well, and
cannot lean on single words.

Formula, with ids x (B, L), share p and one draw u (B, L) in [0, 1) for each token:
x' = [MASK] where u < p and x is a real token that is no special one; x' = x elsewhere.

Paper: Shen et al. 2020 (2009.13818), section 3, token cutoff; DeVries and Taylor 2017 (1708.04552)
for images.

When it helps: little data, many epochs, long texts with more than one clue.
When not: short texts whose label hangs on one word; backbones that never saw a mask token.

Suggested values: p = 0.1, from 0.05 to 0.2.

Cost: 1 pass; no memory. Features of a frozen backbone can no longer be cached.

Clashes: none; it acts before examples are mixed.

NOTE[DIFF]: the paper sets the embeddings of a fixed share of the tokens to zero and adds a loss of
consistency; here tokens are drawn one by one and become mask tokens, which BERT-like models know.
"""

from __future__ import annotations

from typing import Literal, Protocol, cast

import torch
from torch import Tensor

from etude.config.fields import Probability, SearchRange, setting
from etude.core.batch import Batch
from etude.core.phases import AUGMENT
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Facts, Technique, TechniqueConfig


class TokenCutoutConfig(TechniqueConfig):
    """Settings of token cutout."""

    name: Literal["token_cutout"] = "token_cutout"
    share: Probability = setting(
        0.1, help="probability that a token is replaced", search=SearchRange(0.0, 0.3)
    )


class Tokens(Protocol):
    """What a backbone with the capability ``"tokens"`` knows of its vocabulary."""

    mask_token_id: int
    special_ids: tuple[int, ...]


def cut_out(ids: Tensor, replaceable: Tensor, draws: Tensor, share: float, mask_token_id: int) -> Tensor:
    """Return the ids with the mask token where a token is replaceable and its draw is below ``share``.

    Args:
        ids: (B, L) integers.
        replaceable: (B, L) bool.
        draws: (B, L) in [0, 1).
        share: p in [0, 1].
        mask_token_id: id of the mask token.

    Raises:
        ValueError: ``share`` is out of [0, 1].

    >>> ids, real = torch.tensor([[1, 7, 8, 9, 2]]), torch.tensor([[False, True, True, True, False]])
    >>> cut_out(ids, real, torch.tensor([[0.0, 0.3, 0.1, 0.9, 0.0]]), 0.2, mask_token_id=4)
    tensor([[1, 7, 4, 9, 2]])
    """
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"share is {share} and must lie in [0, 1]")
    return ids.masked_fill(replaceable & (draws < share), mask_token_id)


class TokenCutout(Technique[TokenCutoutConfig]):
    """Masks tokens of each example of a step."""

    Config = TokenCutoutConfig
    facts = Facts(
        family="augment",
        phase=AUGMENT,
        paper="Shen et al. 2020, arXiv 2009.13818",
        needs=frozenset({"tokens"}),
        changes_inputs=True,
        neutral={"share": 0.0},
    )

    def attach(self, plan: Plan) -> None:
        share = self.config.share
        if share == 0.0:
            return
        tokens = cast("Tokens", plan.context.backbone)
        mask_token_id, special = tokens.mask_token_id, torch.tensor(tokens.special_ids)

        def augment(batch: Batch, moment: Moment) -> Batch:
            ids = batch.inputs["input_ids"]
            replaceable = ~torch.isin(ids, special)
            if "attention_mask" in batch.inputs:
                replaceable &= batch.inputs["attention_mask"].bool()
            draws = torch.rand(ids.shape, generator=moment.torch("token_cutout"))
            return batch.with_inputs(input_ids=cut_out(ids, replaceable, draws, share, mask_token_id))

        plan.add(AUGMENT, augment)

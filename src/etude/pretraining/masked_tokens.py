"""Masked language modelling: guess the tokens that were hidden.

Idea: a network that can say which word is missing knows how the words of these texts belong together, which a
few hundred labels cannot teach. A checkpoint that was trained so on other texts goes on with yours.

Formula, with ids x (B, L), share s and draws u, v (B, L) in [0, 1): positions with u < s are asked for; of
these, 80 % (v < 0.8) become the mask token, 10 % (v < 0.9) a random token, and 10 % stay. The loss is the
cross-entropy of the original token, over all positions that are asked for.

Paper: Devlin et al. 2019 (1810.04805), section 3.1; on the target texts, Gururangan et al. 2020 (2004.10964).

Shapes: B texts, L tokens, D width, V vocabulary, M positions that are asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from etude.backbones.model import TextBackbone
from etude.core.backbone import Backbone
from etude.data.load import Data
from etude.errors import ConfigError
from etude.pretraining.lm_head import MaskedLMHead, load_lm_head, pooler_of, save_masked_lm
from etude.pretraining.pretext import Inputs, Objective, Pretext, by_row

ORIGINAL = "original_ids"
NOT_ASKED = -100

MASKED, RANDOM = 0.8, 0.1
"""Of the positions that are asked for, the shares that become the mask token and a random token."""


def mask_tokens(
    ids: NDArray[np.int64],
    maskable: NDArray[np.bool_],
    share: float,
    *,
    mask_id: int,
    allowed: NDArray[np.int64],
    rng: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Hide some tokens, 80 % of them behind the mask token, 10 % behind a random one.

    Args:
        ids: (B, L).
        maskable: (B, L), where a token is a word's.
        share: probability that a maskable position is asked for.
        mask_id: id of the mask token.
        allowed: ids that a random token is drawn from.
        rng: the source of all draws.

    Returns:
        The changed ids (B, L), and the original ones where they are asked for, -100 elsewhere (B, L).

    >>> ids = np.arange(10, 20)[None]
    >>> changed, original = mask_tokens(ids, ids > 10, 0.5, mask_id=4, allowed=np.arange(90, 99),
    ...                                 rng=np.random.default_rng(3))
    >>> changed.tolist()
    [[10, 4, 12, 13, 4, 15, 4, 4, 18, 4]]
    >>> original.tolist()
    [[-100, 11, -100, -100, 14, 15, 16, 17, -100, 19]]
    """
    asked = maskable & (rng.random(ids.shape) < share)
    how = rng.random(ids.shape)
    drawn = allowed[rng.integers(0, len(allowed), ids.shape)]
    changed = np.where(asked & (how < MASKED), mask_id, ids)
    changed = np.where(asked & (how >= MASKED) & (how < MASKED + RANDOM), drawn, changed)
    return changed, np.where(asked, ids, NOT_ASKED)


class MaskedTokensPretext(Pretext):
    """A text backbone under a masked-LM head."""

    inner: TextBackbone
    head: MaskedLMHead

    def __init__(self, inner: TextBackbone, head: MaskedLMHead) -> None:
        self._pooler = pooler_of(inner.head)  # not a part of what trains, hence not of the module
        super().__init__(inner, head)

    def judge(self, layers: tuple[Tensor, ...], inputs: Inputs) -> Tensor:
        hidden, original = layers[-1], inputs[ORIGINAL]
        rows, columns = torch.nonzero(original != NOT_ASKED, as_tuple=True)
        wanted = original[rows, columns]
        logits = self.head(hidden[rows, columns]).float()
        losses = F.cross_entropy(logits, wanted, reduction="none")
        return by_row(rows, losses, logits.argmax(dim=-1) == wanted, len(original))

    def save(self, folder: Path, metadata: Mapping[str, Any]) -> None:
        save_masked_lm(self.inner, self.head, self._pooler, folder, metadata)


class MaskedTokens(Objective):
    """Masked language modelling on a text backbone with a mask token."""

    name: ClassVar[str] = "mlm"

    def wrap(self, backbone: Backbone, data: Data, seed: int) -> Pretext:
        text = cast("TextBackbone", backbone)
        if text.mask_token_id is None or text.decoder:
            raise ConfigError(
                "pretrain.objective = 'mlm' hides tokens behind a mask token and the tokenizer of "
                f"{type(text.network).__name__} has none; take an encoder such as BERT or MiniLM"
            )
        special = np.asarray(text.special_ids, dtype=np.int64)
        self._mask_id, self._special = text.mask_token_id, special
        self._allowed = np.setdiff1d(np.arange(text.vocabulary_size), special)
        return MaskedTokensPretext(text, load_lm_head(text, seed))

    def spoil(self, inputs: Inputs, rng: np.random.Generator) -> tuple[dict[str, Tensor], Tensor]:
        ids = inputs["input_ids"].numpy()
        words = inputs["attention_mask"].bool().numpy() & ~np.isin(ids, self._special)
        changed, original = mask_tokens(
            ids, words, self.share, mask_id=self._mask_id, allowed=self._allowed, rng=rng
        )
        counts = torch.from_numpy((original != NOT_ASKED).sum(axis=1)).float()
        told = {"input_ids": torch.from_numpy(changed), ORIGINAL: torch.from_numpy(original)}
        return {**inputs, **told}, counts

"""Progressive length: cut texts short at first, and let them grow in stages.

Idea: much of what a text says of its label stands at its beginning. Short inputs make the first part of
training several times cheaper, and the full texts then only have to refine what is known.

Formula, with texts of n real tokens, lengths m_1 < … < m_K and the time T they are spread over:

* stage k = 1 … K lasts T / K; in it texts of more than m_k tokens are cut to m_k
* a special token at the end of a text, as [SEP], stays: the first m_k - 1 tokens and the last are kept
* after T texts have their full length

Paper: Devlin et al. 2019 (1810.04805), appendix A.2 (90 % of the steps at a quarter of the length); for
images Howard 2018, Training ImageNet in 3 hours for 25 minutes, fast.ai.

When it helps: long texts, many epochs, steps whose time goes with the length.
When not: short texts; labels that hang on a text's end, or on the second text of a pair, which is cut
first; a fine-tuning run of an epoch or two.

Suggested values: lengths = [64, 128] over 0.5dur where the full length is 256.

Cost: less than 1 pass: attention takes time with the square of the length, the rest in proportion.
Features of a frozen backbone cannot be cached.

Clashes: none; other techniques see the shorter texts.

NOTE[DIFF]: the papers change the length once or by a schedule of their own; equal stages here.
"""

from __future__ import annotations

from typing import Annotated, Literal, Protocol, Self, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor

from etude.config.fields import Time, setting
from etude.core.batch import Batch
from etude.core.phases import AUGMENT
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Facts, Technique, TechniqueConfig

Length = Annotated[int, Field(ge=2)]


class ProgressiveLengthConfig(TechniqueConfig):
    """Settings of growing texts."""

    name: Literal["progressive_length"] = "progressive_length"
    lengths: list[Length] = setting(help="most tokens of a text in each stage, rising, as [64, 128]")
    over: Time = setting(Time(0.5, "dur"), help="length of all stages together, as '2ep' or '0.5dur'")

    @model_validator(mode="after")
    def _lengths_rise(self) -> Self:
        if not self.lengths or self.lengths != sorted(set(self.lengths)):
            raise ValueError(f"lengths is {self.lengths} and must name one length or more, in rising order")
        return self


class Tokens(Protocol):
    """What a backbone with the capability ``"tokens"`` knows of its vocabulary."""

    special_ids: tuple[int, ...]


def kept_tokens(ids: Tensor, mask: Tensor, special: Tensor, length: int) -> Tensor:
    """Return which tokens are left of texts that are cut to a length.

    Args:
        ids: (B, L) integers.
        mask: (B, L), 1 for real tokens and 0 for padding, on either side.
        special: (S,) ids of the special tokens.
        length: most tokens of a text, 2 or more.

    Returns:
        (B, L) bool: the first ``length`` real tokens, or the first ``length - 1`` and the last where that
        is a special one.

    >>> ids = torch.tensor([[1, 7, 8, 9, 2], [1, 7, 2, 0, 0]])
    >>> kept_tokens(ids, (ids != 0).long(), torch.tensor([0, 1, 2]), 3).int()
    tensor([[1, 1, 0, 0, 1],
            [1, 1, 1, 0, 0]], dtype=torch.int32)
    """
    real = mask.bool()
    place = real.long().cumsum(dim=1) - 1
    n_real = real.long().sum(dim=1, keepdim=True)
    is_last = real & (place == n_real - 1)
    n_end = (is_last & torch.isin(ids, special)).long().sum(dim=1, keepdim=True)
    return real & ((place < length - n_end) | (place >= n_real - n_end))


def cut(batch: Batch, special: Tensor, length: int) -> Batch:
    """Return the batch with its texts cut to a length, and with as little padding as that allows.

    Args:
        batch: with ``input_ids`` and ``attention_mask`` (B, L); all its integer inputs of that shape are
            cut alike.
        special: (S,) ids of the special tokens.
        length: most tokens of a text.
    """
    ids, mask = batch.inputs["input_ids"], batch.inputs["attention_mask"]
    if int(mask.sum(dim=1).max()) <= length:
        return batch
    kept = kept_tokens(ids, mask, special, length)
    width = int(kept.sum(dim=1).max())
    # Padding stands where it stood: in front, or behind.
    in_front = not bool(mask[:, 0].all()) and bool(mask[:, -1].all())
    columns = (kept if in_front else ~kept).long().argsort(dim=1, stable=True)
    columns = columns[:, -width:] if in_front else columns[:, :width]
    return batch.with_inputs(
        **{
            name: value.gather(1, columns)
            for name, value in batch.inputs.items()
            if value.shape == ids.shape and not value.is_floating_point()
        }
    )


class ProgressiveLength(Technique[ProgressiveLengthConfig]):
    """Cuts the texts of a step."""

    Config = ProgressiveLengthConfig
    facts = Facts(
        family="curriculum",
        phase=AUGMENT,
        paper="Devlin et al. 2019, arXiv 1810.04805",
        needs=frozenset({"tokens"}),
        changes_inputs=True,
        neutral={"over": "0ep"},
        # Shorter than most of the texts that tests of every technique use.
        example={"lengths": [3, 5]},
    )

    def attach(self, plan: Plan) -> None:
        lengths, end = self.config.lengths, plan.context.steps(self.config.over)
        if end == 0:
            return
        special = torch.tensor(cast("Tokens", plan.context.backbone).special_ids)

        def augment(batch: Batch, moment: Moment) -> Batch:
            if moment.step >= end:
                return batch
            return cut(batch, special, lengths[moment.step * len(lengths) // end])

        # Techniques that draw for each token draw for the tokens that are left.
        plan.add(AUGMENT, augment, rank=-10)

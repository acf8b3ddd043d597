"""The shape of ``[pretrain]``: learning from rows without labels."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from etude.config.fields import Strict, setting

ObjectiveName = Literal["auto", "mlm", "replaced_tokens", "denoise", "masked_patches", "contrast"]


class PretrainConfig(Strict):
    """How a backbone learns from inputs alone, before any label is shown."""

    objective: ObjectiveName = setting(
        "auto",
        help="what is learned; auto is mlm for texts, replaced_tokens for tables, masked_patches for images",
    )
    epochs: int = setting(3, help="passes over the rows", ge=1)
    batch_size: int | None = setting(
        None, help="rows in one optimizer step; absent is train.batch_size", ge=1
    )
    lr: float | None = setting(None, help="learning rate; absent is the optimizer's", gt=0, le=1)
    share: Annotated[float, Field(gt=0, lt=1)] | None = setting(
        None,
        help="of an input's tokens, cells or patches, how many are hidden or exchanged; absent is 0.15, and "
        "0.6 for patches",
    )
    head: int = setting(
        512, help="width of the layer that reconstructs, for tables and images; it is thrown away", ge=1
    )
    held_out: Annotated[float, Field(gt=0, lt=1)] = setting(
        0.1,
        help="fraction of the rows on which the loss is measured; where data.train is learned from and has a "
        "validation part, that part is taken",
    )

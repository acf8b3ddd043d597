"""``[backbone]`` with ``kind = "table"``: the network over the columns of a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import model_validator

from etude.config.fields import Probability, SearchRange, Strict, setting

TableModel = Literal["mlp", "resnet", "ft_transformer", "tab_transformer"]

DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "mlp": {"n_blocks": 3, "d_block": 384, "dropout": 0.1, "activation": "relu", "numeric_embedding": "none"},
    "resnet": {
        "n_blocks": 2, "d_block": 192, "dropout": 0.3, "activation": "relu", "numeric_embedding": "none",
    },
    "ft_transformer": {
        "n_blocks": 3, "d_block": 192, "dropout": 0.1, "activation": "reglu", "numeric_embedding": "linear",
    },
    "tab_transformer": {
        "n_blocks": 6, "d_block": 32, "dropout": 0.1, "activation": "geglu", "numeric_embedding": "none",
    },
}  # fmt: skip
"""What a setting that is absent means for each model: the papers' own values, as far as they name one."""


class TextBesideConfig(Strict):
    """The text backbone that reads a table's columns of text."""

    path: str = setting(
        "sentence-transformers/all-MiniLM-L6-v2",
        help="a folder, a hub id, or 'pkg:PACKAGE' for weights that an installed package carries",
    )
    pooling: Literal["auto", "cls", "mean", "max", "last"] = setting(
        "auto", help="how token features become one vector; auto follows the checkpoint"
    )
    max_length: int = setting(64, help="texts are cut to this many tokens", unit="tokens", ge=2)
    layers: int | None = setting(None, help="use only the first N transformer layers", ge=1)
    lr_scale: float = setting(
        0.03, help="learning rate of the text's network, as a multiple of the run's; 0 freezes it", ge=0, le=1
    )


class TableBackboneConfig(Strict):
    """The network over the columns of a table, under the head."""

    kind: Literal["table"] = setting("table", help="what the inputs are")
    model: TableModel = setting("mlp", help="the network")
    path: str | None = setting(None, help="folder of a saved table model whose weights are the first ones")
    n_blocks: int | None = setting(None, help="layers or blocks; absent is the model's own number", ge=1)
    d_block: int | None = setting(
        None, help="width of a layer, of a transformer's tokens; absent is the model's own", ge=1
    )
    n_heads: int = setting(8, help="heads of each attention; they divide d_block", ge=1)
    d_hidden_factor: float | None = setting(
        None,
        help="width inside a block as a multiple of d_block; absent is 2 for resnet, 4 for tab_transformer, "
        "4/3 (with reglu or geglu) or 2 for ft_transformer",
        gt=0,
    )
    dropout: Probability | None = setting(
        None, help="dropout inside blocks; absent is the model's own", search=SearchRange(0.0, 0.5)
    )
    attention_dropout: Probability = setting(0.2, help="dropout of attention", search=SearchRange(0.0, 0.5))
    residual_dropout: Probability = setting(0.0, help="dropout of what each block adds")
    activation: Literal["relu", "gelu", "reglu", "geglu"] | None = setting(
        None, help="inside blocks; absent is the model's own"
    )
    norm: Literal["pre", "post"] | None = setting(
        None,
        help="norms of a transformer stand in front of what is added, or after the sum, which needs a "
        "warm-up; absent is pre for ft_transformer and post for tab_transformer",
    )
    numeric_embedding: Literal["none", "linear", "periodic", "piecewise_linear"] | None = setting(
        None, help="how a number becomes a vector; absent is linear for ft_transformer and none for others"
    )
    d_embedding: int = setting(
        16, help="width of the vectors of categories and numbers of mlp, resnet and tab_transformer", ge=1
    )
    n_bins: int = setting(32, help="bins of the piecewise-linear embedding", ge=2)
    n_frequencies: int = setting(32, help="frequencies of the periodic embedding", ge=1)
    frequency_scale: float = setting(
        0.1, help="deviation of the first frequencies", gt=0, search=SearchRange(0.01, 10.0, "log")
    )
    head: Literal["linear", "mlp"] = setting("linear", help="what stands on the features")
    head_dropout: Probability = setting(0.0, help="dropout in front of the head")
    text: TextBesideConfig | None = setting(None, help="the text backbone that reads columns of text")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        transformer = self.model in ("ft_transformer", "tab_transformer")
        if transformer and self.width % self.n_heads:
            raise ValueError(
                f"n_heads = {self.n_heads} does not divide d_block = {self.width}; give a divisor of it"
            )
        if self.model == "ft_transformer" and self.numeric_embedding == "none":
            raise ValueError(
                'model = "ft_transformer" makes a token of each number and numeric_embedding is "none"; give '
                '"linear", "periodic" or "piecewise_linear"'
            )
        if not transformer and self.norm is not None:
            raise ValueError(
                f'norm = "{self.norm}" is for ft_transformer and tab_transformer and model is '
                f'"{self.model}"; remove norm'
            )
        return self

    @property
    def pretrained(self) -> bool:
        """Whether training starts from weights that were trained before."""
        return self.path is not None

    @property
    def width(self) -> int:
        """``d_block``, or the model's own."""
        return self.d_block or int(DEFAULTS[self.model]["d_block"])

    def resolved(self) -> dict[str, Any]:
        """The settings that make the network, the absent ones filled in with the model's own.

        >>> TableBackboneConfig(model="ft_transformer", n_blocks=2).resolved()["d_block"]
        192
        """
        given = self.model_dump(exclude={"kind", "path", "text"}, exclude_none=True)
        settings = {**DEFAULTS[self.model], **given}
        settings.setdefault("norm", "post" if self.model == "tab_transformer" else "pre")
        gated = settings["activation"] in ("reglu", "geglu")
        factors = {"resnet": 2.0, "tab_transformer": 4.0, "ft_transformer": 4 / 3 if gated else 2.0}
        settings.setdefault("d_hidden_factor", factors.get(self.model, 1.0))
        return settings

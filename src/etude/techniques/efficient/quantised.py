"""Quantised weights: keep the frozen matrices under LoRA in 4 or 8 bits.

Idea: a matrix that does not train is only read. With 4 bits for a number it takes an eighth of the memory;
it is made whole for each product, and LoRA's matrices, in full precision, make up for the rounding.

Formula, with W (out, in), blocks of 64 numbers, c the largest absolute value of a block and a table T of 16
numbers in [-1, 1]: W ≈ c · T[i], i the nearest. ``nf4``: T holds quantiles of a normal distribution;
``fp4``: floats of 4 bits. ``int8``: W ≈ c / 127 · round(127 W / c), c the largest of each row. Then
y = x W'ᵀ + b + LoRA's part, with W' the weight made whole.

Paper: Dettmers et al. 2023 (2305.14314), QLoRA, section 3; 2022 (2208.07339), section 3.1, for rows of int8.

When it helps: networks whose matrices do not fit into memory beside the activations.
When not: memory suffices, since each product costs more time; networks of few and small matrices, where
LoRA saves little already.

Suggested values: ``nf4``; ``int8`` where the loss of accuracy counts more than memory.

Cost: 1 pass, with each matrix made whole twice in a step; 0.56 bytes for a number in 4 bits and 1 in 8,
instead of 4. Needs the package bitsandbytes (``pip install 'etude[quantised]'``).

Clashes: none by itself; it needs lora, since a quantised weight cannot train, and so it cannot stand beside
prompt_tuning and prefix_tuning, which freeze LoRA's matrices.

NOTE[DIFF]: no second quantisation of the scales and no pages of optimizer state, which QLoRA has besides;
products are in the run's precision. ``int8`` rounds weights alone, where the paper also rounds
activations but for outliers. The checkpoint is read whole before it is quantised. A saved model holds whole
matrices with LoRA's part in them.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from etude.config.fields import setting
from etude.core.backbone import Backbone
from etude.core.phases import MODEL
from etude.core.plan import Plan
from etude.core.technique import Facts, Technique, TechniqueConfig
from etude.errors import ConfigError
from etude.parts.quantised_linear import Kind, QuantisedLinear, bitsandbytes, dequantise, quantise


class QuantisedConfig(TechniqueConfig):
    """Settings of the quantisation."""

    name: Literal["quantised"] = "quantised"
    kind: Kind = setting("nf4", help="how a number is kept: nf4 or fp4 in 4 bits, int8 in 8")


def refuse_unable(kind: Kind) -> None:
    """Quantise one small matrix, to find out before training whether that works here.

    Raises:
        ConfigError: bitsandbytes is not installed, or cannot quantise on a processor of this kind.
    """
    version = bitsandbytes().__version__
    weight = torch.linspace(-1.0, 1.0, 64).view(1, 64)
    try:
        apart = (dequantise(*quantise(weight, kind), kind, weight.shape) - weight).abs().max()
    except (RuntimeError, NotImplementedError, AttributeError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(
            f"quantised: bitsandbytes {version} cannot keep weights as {kind} on this machine ({reason}); "
            "install a newer bitsandbytes or remove quantised"
        ) from None
    if not apart < 0.25:
        raise ConfigError(
            f"quantised: bitsandbytes {version} is off by {float(apart):.3g} for a weight of at most 1 kept "
            f"as {kind} on this machine; install a newer bitsandbytes or remove quantised"
        )


def quantise_frozen(backbone: Backbone, kind: Kind) -> int:
    """Quantise every linear layer under the pooler and the head but LoRA's own, in place.

    Args:
        backbone: the model, with LoRA's matrices beside its own.
        kind: see :class:`QuantisedConfig`.

    Returns:
        How many layers there are.

    >>> from etude.testing.tiny import TinyTransformer
    >>> model = TinyTransformer(3, d_model=64)
    >>> quantise_frozen(model, "nf4")
    4
    >>> [type(module).__name__ for module in (model.layers[0].out, model.head[1])]
    ['QuantisedLinear', 'Linear']
    """
    trained = {
        id(module)
        for part in (backbone.head, backbone.pooler)
        if part is not None
        for module in part.modules()
    }
    n_layers = 0
    for name, parent in list(backbone.named_modules()):
        if id(parent) in trained or ".lora_" in f".{name}.":
            continue
        for child_name, child in list(parent.named_children()):
            # A subclass may look at its weight in other ways than a product.
            if type(child) is nn.Linear and id(child) not in trained and not child_name.startswith("lora_"):
                setattr(parent, child_name, QuantisedLinear(child, kind))
                n_layers += 1
    return n_layers


class Quantised(Technique[QuantisedConfig]):
    """Exchanges the frozen linear layers."""

    Config = QuantisedConfig
    facts = Facts(
        family="efficient",
        phase=MODEL,
        paper="Dettmers et al. 2023, arXiv 2305.14314; Dettmers et al. 2022, arXiv 2208.07339",
        requires=frozenset({"lora"}),
        split_invariant=False,  # as lora, whose dropout draws for each micro-batch
    )

    def attach(self, plan: Plan) -> None:
        kind = self.config.kind
        refuse_unable(kind)

        def edit(backbone: Backbone) -> Backbone:
            quantise_frozen(backbone, kind)
            return backbone

        # After LoRA, and before layers are wrapped to be computed again.
        plan.add(MODEL, edit, rank=15)

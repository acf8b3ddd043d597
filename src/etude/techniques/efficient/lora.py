"""LoRA: train a low-rank change of each weight matrix and leave the matrices as they are.

Idea: what fine-tuning changes in a weight has a low rank; two thin matrices hold it, so that gradients
and moments of the optimizer are needed for one weight in a hundred.

Formula: W' = W + (α / r) B A, with A (r, in) drawn at random, B (out, r) zero at first, W frozen. Only A,
B and the head train. A saved model holds W' and needs neither this technique nor its library.

Paper: Hu et al. 2021 (2106.09685), sections 4.1 and 4.2; Dettmers et al. 2023 (2305.14314) for adapters on
every linear layer.

When it helps: large networks on little memory, and many tasks on one network.
When not: small networks, where training everything is better and no slower.

Suggested values: r = 32, α = 64, dropout = 0.05 on all linear layers; a learning rate about ten times that
of full fine-tuning.

Cost: forward and backward of two thin products for each layer; no gradients for the matrices themselves
and no optimizer state for them. Needs the package peft (``pip install 'etude[peft]'``).

Clashes: techniques that change or freeze the weights which it freezes.
"""

from __future__ import annotations

import logging
from typing import Any, Literal

import torch
from torch import nn

from etude.config.fields import SearchRange, Time, setting
from etude.core.backbone import Backbone
from etude.core.phases import GROUPS, MODEL, GroupRule, Parameter
from etude.core.plan import Plan
from etude.core.rng import key
from etude.core.technique import Facts, Technique, TechniqueConfig
from etude.errors import ConflictError, closest
from etude.extras import require

NEVER = Time(1, "dur")


class LoRAConfig(TechniqueConfig):
    """Settings of LoRA."""

    name: Literal["lora"] = "lora"
    r: int = setting(32, help="rank of the change", ge=1, search=SearchRange(4, 128, "log"))
    alpha: float = setting(64.0, help="the change is scaled by alpha / r", gt=0.0)
    dropout: float = setting(0.05, help="dropout in front of A", ge=0.0, lt=1.0)
    layers: list[str] = setting(
        [], help='names of linear layers, whole or their last part ("query"); all of them if empty'
    )


def linear_layers(backbone: Backbone, wanted: list[str]) -> list[str]:
    """Return the names of the linear layers under the pooler and the head.

    Args:
        backbone: the model.
        wanted: names that a layer's name must equal or end with after a dot; all layers if empty.

    Raises:
        ConflictError: no layer has one of these names.
    """
    fresh = tuple(
        id(m) for part in (backbone.head, backbone.pooler) if part is not None for m in part.modules()
    )
    names = [
        name
        for name, module in backbone.named_modules()
        if isinstance(module, nn.Linear) and id(module) not in fresh
    ]
    for want in wanted:
        if not any(_called(name, want) for name in names):
            ends = {name.rsplit(".", 1)[-1] for name in names}
            raise ConflictError(f"lora: no linear layer is called '{want}'{closest(want, sorted(ends))}")
    return [name for name in names if not wanted or any(_called(name, want) for want in wanted)]


def _called(name: str, want: str) -> bool:
    """Whether a module has the name, exactly or as its last parts.

    >>> _called("layers.1.query", "query"), _called("layers.1.query", "1.query"), _called("subquery", "query")
    (True, True, False)
    """
    return name == want or name.endswith(f".{want}")


def add_adapters(backbone: Backbone, config: LoRAConfig, seed: int) -> Backbone:
    """Put adapters on the linear layers, in place; their first weights are a function of the seed."""
    # Where bitsandbytes is there, the library imports it, and it warns of a product that is not used here.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    peft: Any = require("peft", extra="peft", technique="lora")
    names = linear_layers(backbone, config.layers)
    if not names:
        raise ConflictError("lora: the backbone has no linear layer under its head; remove lora")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key(seed, "lora"))
        peft.inject_adapter_in_model(
            peft.LoraConfig(
                r=config.r, lora_alpha=config.alpha, lora_dropout=config.dropout, target_modules=names
            ),
            backbone,
        )
    # The library has frozen the rest, the head too. What trains is said by groups, step by step; processes
    # that share the work would never exchange gradients of what is frozen as they begin.
    return backbone.requires_grad_(True)


class LoRA(Technique[LoRAConfig]):
    """Adds the adapters, and freezes everything but them and the head."""

    Config = LoRAConfig
    facts = Facts(
        family="efficient",
        phase=MODEL,
        paper="Hu et al. 2021, arXiv 2106.09685",
        split_invariant=False,  # the dropout that it brings draws for each micro-batch
    )

    def attach(self, plan: Plan) -> None:
        config, seed = self.config, plan.context.seed

        def edit(backbone: Backbone) -> Backbone:
            return add_adapters(backbone, config, seed)

        def rule(parameter: Parameter) -> GroupRule:
            trains = parameter.in_head or ".lora_" in parameter.name
            return GroupRule() if trains else GroupRule(frozen_until=NEVER)

        # After techniques that put in a pooler or change first weights.
        plan.add(MODEL, edit, rank=10)
        plan.add(GROUPS, rule)

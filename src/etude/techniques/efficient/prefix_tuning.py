"""Prefix tuning: learn keys and values in front of every layer's attention, and leave the network as it is.

Idea: a prompt in front of the text acts through all layers that follow. Learned keys and values in each
layer act on it directly, which small networks and hard tasks need.

Formula, for each layer and head, with queries q (L, d), a text's keys and values K, V (L, d) and learned
K_p, V_p (p, d): softmax(q [K_p; K]ᵀ / √d + mask) [V_p; V], with all of K_p in sight. Only K_p, V_p and the
head train. With an MLP: (K_p, V_p) of layer l = W_l tanh(W e + b) + b_l from one table e (p, D).

Paper: Liu et al. 2021 (2110.07602), P-tuning v2, section 3; Li and Liang 2021 (2101.00190), section 4, for
the MLP.

When it helps: large networks and many tasks on one network; also networks of 300 million parameters, where
prompt tuning fails (Liu et al., table 2).
When not: one task and memory enough, where LoRA or full training reach more with less tuning.

Suggested values: p = 20 for simple tasks, up to 100 for hard ones; a learning rate ten to a hundred times
that of full fine-tuning; the MLP off: Liu et al. find it to help or to hurt, by the task (section 3.3).

Cost: 1 pass; each token looks at p more keys; no gradients for the matrices and no optimizer state for
them. In bf16 on a processor the faster way through BERT's layers is not taken.

Clashes: lora and prompt_tuning, each of which freezes what the other trains; what draws weights anew, which
would stay random; rules on which blocks train, and how fast, since none of them does.

NOTE[DIFF]: tokens keep the positions that they have without a prefix; the papers' code counts the prefix
in where positions are learned. First values are N(0, s²) with s = 0.02 and not 1. A saved model holds the
keys and values; the MLP that made them is gone.
"""

from __future__ import annotations

from typing import Literal, Protocol, cast

from etude.config.fields import SearchRange, Time, setting
from etude.core.backbone import Backbone
from etude.core.phases import GROUPS, MODEL, GroupRule, Parameter
from etude.core.plan import Plan
from etude.core.technique import Facts, Technique, TechniqueConfig
from etude.parts.placing import fresh, like
from etude.parts.prefix import AttentionSizes, Prefix, ReparametrisedPrefix

NEVER = Time(1, "dur")
_RANDOM = "weights that are drawn anew would stay random, since prefix_tuning trains none; remove one of them"
_FROZEN = "prefix_tuning freezes every block for the whole run; remove one of them"


class PrefixTuningConfig(TechniqueConfig):
    """Settings of prefix tuning."""

    name: Literal["prefix_tuning"] = "prefix_tuning"
    tokens: int = setting(
        20,
        help="learned keys and values in front of each layer's",
        unit="tokens",
        ge=1,
        search=SearchRange(5, 100, "log"),
    )
    mlp: int = setting(0, help="hidden width of the MLP that makes them; 0 for free vectors", ge=0)


def make_prefix(sizes: AttentionSizes, n_tokens: int, mlp: int, seed: int) -> Prefix:
    """Return a prefix whose first values are a function of the seed.

    Args:
        sizes: of the network.
        n_tokens: p.
        mlp: hidden width of the MLP, or 0 for none.
        seed: of the draws.

    Four keys and values of eight numbers, in each of two layers, with one head:

    >>> sizes = AttentionSizes(n_layers=2, n_heads=1, d_head=8)
    >>> sum(value.numel() for value in make_prefix(sizes, 4, 0, seed=0).parameters())
    128
    >>> make_prefix(sizes, 4, 16, seed=0).of_layer(1).shape
    torch.Size([2, 1, 4, 8])
    """
    named = sizes._asdict()
    if mlp == 0:
        return fresh(Prefix, seed, n_tokens=n_tokens, **named)
    return fresh(ReparametrisedPrefix, seed, n_tokens=n_tokens, hidden=mlp, **named)


class Attends(Protocol):
    """What a backbone with the capability ``"prefix"`` knows of its attention."""

    def attention_sizes(self) -> AttentionSizes: ...


class PrefixTuning(Technique[PrefixTuningConfig]):
    """Adds the prefix, and freezes everything but it and the head."""

    Config = PrefixTuningConfig
    facts = Facts(
        family="efficient",
        phase=MODEL,
        paper="Liu et al. 2021, arXiv 2110.07602; Li and Liang 2021, arXiv 2101.00190",
        needs=frozenset({"prefix"}),
        clashes={
            "lora": "each freezes what the other trains; remove one of them, and quantised with lora",
            "quantised": "it comes with lora, and lora and prefix_tuning freeze what the other trains; "
            "remove one of them",
            "init_weights": _RANDOM,
            "init_embeddings": _RANDOM,
            "reinit_layers": _RANDOM,
            "freeze": _FROZEN,
            "gradual_unfreezing": _FROZEN,
            "layerwise_lr": _FROZEN,
        },
    )

    def attach(self, plan: Plan) -> None:
        config, seed = self.config, plan.context.seed

        def edit(backbone: Backbone) -> Backbone:
            sizes = cast("Attends", backbone).attention_sizes()
            backbone.put_prefix(like(backbone, make_prefix(sizes, config.tokens, config.mlp, seed)))
            return backbone

        def rule(parameter: Parameter) -> GroupRule:
            trains = parameter.in_head or parameter.name.startswith("prefix.")
            return GroupRule() if trains else GroupRule(frozen_until=NEVER)

        plan.add(MODEL, edit, rank=5)
        plan.add(GROUPS, rule)

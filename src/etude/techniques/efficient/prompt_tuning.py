"""Prompt tuning: learn a few vectors in front of every text, and leave the network as it is.

Idea: a frozen language model can be told its task by words in front of the text. The best such words need
not be words: they are vectors that gradients find.

Formula, with a text's token embeddings E (L, D) and learned vectors P (p, D): the network reads [P; E],
p + L tokens; pooling and head see the features of the L tokens alone. Only P and the head train.

Paper: Lester et al. 2021 (2104.08691), sections 2 and 3.2.

When it helps: very large networks, and many tasks on one network: a task is p · D numbers and a head.
When not: networks below some billion parameters, where it stays behind full training (figure 1 of the
paper); short runs, since it learns slowly.

Suggested values: p = 20, up to 100; first values from the vocabulary; a learning rate a hundred times that
of full fine-tuning (the paper's is 0.3, with Adafactor).

Cost: 1 pass over p more tokens; gradients run through the whole network and end in the prompt alone;
optimizer state for p · D numbers and the head.

Clashes: lora and prefix_tuning, each of which freezes what the other trains; what draws weights anew, which
would stay random; rules on which blocks train, and how fast, since none of them does.

NOTE[DIFF]: the paper's model generates the label's words, here a head trains beside the prompt; the paper
draws first values from the 5,000 most common tokens, here from the whole vocabulary but special tokens.
"""

from __future__ import annotations

from typing import Literal, Protocol, cast

import torch
from torch import Tensor

from etude.config.fields import SearchRange, Time, setting
from etude.core.backbone import Backbone
from etude.core.phases import GROUPS, MODEL, GroupRule, Parameter
from etude.core.plan import Plan
from etude.core.rng import torch_generator
from etude.core.technique import Facts, Technique, TechniqueConfig
from etude.parts.placing import fresh, like
from etude.parts.prompt import Prompt

NEVER = Time(1, "dur")
_RANDOM = "weights that are drawn anew would stay random, since prompt_tuning trains none; remove one of them"
_FROZEN = "prompt_tuning freezes every block for the whole run; remove one of them"


class PromptTuningConfig(TechniqueConfig):
    """Settings of prompt tuning."""

    name: Literal["prompt_tuning"] = "prompt_tuning"
    tokens: int = setting(
        20, help="learned vectors in front of a text", unit="tokens", ge=1, search=SearchRange(5, 100, "log")
    )
    start: Literal["vocabulary", "normal"] = setting(
        "vocabulary", help="first values: embeddings of tokens drawn from the vocabulary, or N(0, 0.02²)"
    )


class Vocabulary(Protocol):
    """What a backbone with the capability ``"prompt"`` knows of its tokens."""

    vocabulary_size: int
    special_ids: tuple[int, ...]


def draw_tokens(
    n_tokens: int, vocabulary_size: int, special_ids: tuple[int, ...], generator: torch.Generator
) -> Tensor:
    """Draw tokens (P,) that are no special ones, without repeating any before all have come.

    Args:
        n_tokens: P.
        vocabulary_size: ids are below it.
        special_ids: ids that are not drawn.
        generator: what is drawn from.

    Raises:
        ValueError: the vocabulary has none but special tokens.

    >>> draw_tokens(7, 6, (0, 5), torch.Generator().manual_seed(0)).tolist()
    [1, 2, 4, 3, 1, 2, 4]
    """
    ids = torch.tensor([i for i in range(vocabulary_size) if i not in set(special_ids)], dtype=torch.long)
    if len(ids) == 0:
        raise ValueError(f"a vocabulary of {vocabulary_size} tokens has none but special ones")
    order = torch.randperm(len(ids), generator=generator)
    return ids[order[torch.arange(n_tokens) % len(ids)]]


def add_prompt(backbone: Backbone, config: PromptTuningConfig, seed: int) -> Backbone:
    """Put a prompt in front of the embedding, in place; its first values are a function of the seed."""
    vocabulary = cast("Vocabulary", backbone)
    generator = torch_generator(seed, "prompt_tuning")
    ids = draw_tokens(config.tokens, vocabulary.vocabulary_size, vocabulary.special_ids, generator)
    with torch.no_grad():
        found = backbone.embed({"input_ids": ids[None]})[0]
        prompt = fresh(Prompt, seed, n_tokens=config.tokens, width=found.shape[-1])
        if config.start == "vocabulary":
            prompt.vectors.copy_(found)
    backbone.put_prompt(like(backbone, prompt))
    return backbone


class PromptTuning(Technique[PromptTuningConfig]):
    """Adds the prompt, and freezes everything but it and the head."""

    Config = PromptTuningConfig
    facts = Facts(
        family="efficient",
        phase=MODEL,
        paper="Lester et al. 2021, arXiv 2104.08691",
        needs=frozenset({"prompt"}),
        clashes={
            "lora": "each freezes what the other trains; remove one of them, and quantised with lora",
            "prefix_tuning": "each freezes what the other trains; remove one of them",
            "quantised": "it comes with lora, and lora and prompt_tuning freeze what the other trains; "
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
            return add_prompt(backbone, config, seed)

        def rule(parameter: Parameter) -> GroupRule:
            trains = parameter.in_head or parameter.name.startswith("prompt.")
            return GroupRule() if trains else GroupRule(frozen_until=NEVER)

        plan.add(MODEL, edit, rank=5)
        plan.add(GROUPS, rule)

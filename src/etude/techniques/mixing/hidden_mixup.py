"""Hidden mixup: train on weighted sums of two texts' token embeddings and of their targets.

Idea: words cannot be added, their embeddings can. Between two examples the model shall answer between
their labels, which keeps it from being sure of what it has not seen.

Formula, with λ ~ Beta(α, α), partner j of example i, embeddings e (B, L, D), masks m (B, L) of real
tokens and targets y (B, C):

* e'_i = λ m_i e_i + (1 - λ) m_j e_j, attended where either text has a token
* y'_i = λ y_i + (1 - λ) y_j

Paper: Zhang et al. 2018 (1710.09412), equation 1; on word embeddings: Guo et al. 2019 (1905.08941);
on hidden layers: Verma et al. 2019 (1806.05236).

When it helps: little data, noisy labels, many epochs; multilabel data as well.
When not: underfitting; few epochs; labels that hang on single words, as a negation.

Suggested values: α = 0.2, from 0.1 to 1, and more epochs than without it.

Cost: 1 pass and a second embedding; no memory to speak of.

Clashes: another technique that mixes; losses, filters and teachers that need hard targets or one text.

NOTE[DIFF]: only the embedding layer mixes, as in wordMixup, while manifold mixup draws a layer. Token
types, positions and the example's weight stay those of the example itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from etude.config.fields import SearchRange, setting
from etude.core.backbone import Backbone, Output
from etude.core.batch import Batch
from etude.core.phases import FORWARD, MIX, ModelCall
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Facts, Technique, TechniqueConfig

LAM, OWN_MASK, PARTNER = "mix.lam", "mix.mask", "mix.partner."
MASK = "attention_mask"


class HiddenMixupConfig(TechniqueConfig):
    """Settings of hidden mixup."""

    name: Literal["hidden_mixup"] = "hidden_mixup"
    alpha: float = setting(
        0.2, help="both parameters of the beta distribution", ge=0.0, search=SearchRange(0.05, 2.0, "log")
    )
    per_example: bool = setting(False, help="draw λ for each example instead of once a batch")


def mix(own: Tensor, other: Tensor, lam: Tensor) -> Tensor:
    """Return ``lam * own + (1 - lam) * other``.

    Args:
        own: (B, ...).
        other: of the same shape.
        lam: (B,) in [0, 1].

    Raises:
        ValueError: ``lam`` has not one number for each example.

    >>> mix(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), torch.tensor([0.7]))
    tensor([[0.7000, 0.3000]])
    """
    if lam.shape != own.shape[:1]:
        raise ValueError(f"lam has shape {tuple(lam.shape)} and must have ({own.shape[0]},)")
    lam = lam.to(own.dtype).view(-1, *[1] * (own.dim() - 1))
    return lam * own + (1 - lam) * other


def pair(batch: Batch, partners: Tensor, lam: Tensor) -> Batch:
    """Return the batch with mixed targets, and each example's λ and partner's inputs beside its own.

    Args:
        batch: B examples.
        partners: (B,) positions in the batch.
        lam: (B,) in [0, 1].
    """
    others = {f"{PARTNER}{name}": value[partners] for name, value in batch.inputs.items()}
    targets = mix(batch.targets, batch.targets[partners], lam)
    return batch.replace(targets=targets, inputs={**batch.inputs, **others, LAM: lam})


def mix_embedding(backbone: Backbone, embedding: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
    """Mix the embedding (B, L, D) of a paired batch with its partners', padding counting as zero."""
    theirs = {name.removeprefix(PARTNER): value for name, value in inputs.items() if name.startswith(PARTNER)}
    other = backbone.embed(theirs)
    if OWN_MASK in inputs:
        embedding = embedding * inputs[OWN_MASK].unsqueeze(-1).to(embedding.dtype)
        other = other * theirs[MASK].unsqueeze(-1).to(other.dtype)
    return mix(embedding, other, inputs[LAM])


def with_union_mask(batch: Batch) -> Batch:
    """Let the model attend wherever either text has a token, and keep the own mask beside."""
    if MASK not in batch.inputs:
        return batch
    own = batch.inputs[MASK]
    union = torch.maximum(own, batch.inputs[f"{PARTNER}{MASK}"])
    return batch.with_inputs(**{MASK: union, OWN_MASK: own})


def with_mixed_numbers(batch: Batch) -> Batch:
    """Mix the numbers (B, K) that stand beside the embedding as the embedding will be mixed."""
    own, other = batch.inputs["numbers"], batch.inputs[f"{PARTNER}numbers"]
    return batch.with_inputs(numbers=mix(own, other, batch.inputs[LAM]))


class HiddenMixup(Technique[HiddenMixupConfig]):
    """Pairs the examples of a step, and mixes their embeddings inside the model's call."""

    Config = HiddenMixupConfig
    facts = Facts(
        family="mixing",
        phase=MIX,
        paper="Zhang et al. 2018, arXiv 1710.09412; Guo et al. 2019, arXiv 1905.08941",
        needs=frozenset({"embed"}),
        produces_soft_targets=True,
        changes_inputs=True,
        neutral={"alpha": 0.0},
    )

    def attach(self, plan: Plan) -> None:
        alpha, per_example = self.config.alpha, self.config.per_example
        if alpha == 0.0:
            return

        def pair_up(batch: Batch, moment: Moment) -> Batch:
            generator, n = moment.numpy("hidden_mixup"), len(batch)
            partners = torch.from_numpy(generator.permutation(n))
            drawn = generator.beta(alpha, alpha, size=n if per_example else 1)
            return pair(batch, partners, torch.from_numpy(drawn).to(batch.targets).expand(n))

        beside = plan.context.backbone.n_numbers > 0

        def forward(call: ModelCall, batch: Batch, moment: Moment) -> Output:
            batch = with_union_mask(batch)
            return call(with_mixed_numbers(batch) if beside else batch, mix_embedding)

        plan.add(MIX, pair_up)
        plan.add(FORWARD, forward)

"""Similarity distillation: be alike to the teacher in what is alike, layer by layer.

Idea: teacher and student have other widths, so that their features cannot be compared. Which examples
of a batch are like each other can be: two texts that the teacher's layer puts together shall lie together
in the student's layer as well.

Formula, for each pair of layers, with features F (b, D) of the b examples that pass together, being
means over the real tokens where a layer has tokens:

* Q = F Fᵀ (b, b), and G its rows divided by their lengths
* loss of the pair: ||G_S - G_T||² / b², the square summed over all entries
* loss = loss of the labels + γ r(t) Σ over the pairs, r rising from ``start`` to 1 over ``ramp``

Paper: Tung & Mori 2019 (1907.09682), equations 1 to 4.

When it helps: a teacher that is wider or deeper; beside distillation, which knows only the outputs.
When not: batches of very few rows, whose examples are like nothing; a teacher that is no better.

Suggested values: γ = 3000 in the paper, whose b² is that of 256 rows; γ = 10 for batches of 32, up
to 1000; a ramp over the first third of the run; 4 layers.

Cost: 1.33 passes for a teacher of the student's size, both without the faster way that gives the last
layer alone; (b, b) numbers for each layer.

Clashes: hidden_mixup, whose mixed inputs exist only inside the student.

NOTE[DIFF]: pairs of layers are spread over the depth, the last ones of both always together; the paper
takes the ends of stages of convolutional networks. Micro-batches see only their own examples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from etude.config.fields import Probability, SearchRange, Time, setting
from etude.core.backbone import Backbone, Output
from etude.core.batch import Batch
from etude.core.phases import EXTRA_LOSS, MODEL, ExtraLoss
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Context, Facts, Technique, TechniqueConfig
from etude.errors import ConfigError
from etude.parts.tokens import pool_mean


class SimilarityDistillationConfig(TechniqueConfig):
    """Settings of similarity distillation."""

    name: Literal["similarity_distillation"] = "similarity_distillation"
    teacher: str = setting(help="folder of the saved model that teaches")
    weight: float = setting(
        10.0, help="γ, weight of the similarities; 0 is no teacher", ge=0.0, le=1e5,
        search=SearchRange(1.0, 3000.0, "log"),
    )  # fmt: skip
    layers: int = setting(
        4,
        help="pairs of layers, spread over the depth; as many as the shallower model has at most",
        ge=1,
        le=1000,
    )
    start: Probability = setting(0.0, help="share of the weight at the beginning of the ramp")
    ramp: Time = setting(Time.parse("0.3dur"), help="how long the weight rises to its full size")


def similarities(features: Tensor) -> Tensor:
    """Return G (b, b): how like each example is to every other, each row of length one.

    >>> similarities(torch.tensor([[1.0, 0.0], [0.0, 1.0], [3.0, 4.0]]))[2]
    tensor([0.1177, 0.1569, 0.9806])
    """
    return normalize(features @ features.T, dim=1)


def similarity_terms(student: Tensor, teacher: Tensor) -> Tensor:
    """Return each example's share of ||G_S - G_T||² / b², whose mean over the examples that is.

    Args:
        student: (b, D) features.
        teacher: (b, E) features of the same examples.

    Returns:
        (b, 1) terms.

    >>> student, teacher = torch.eye(2), torch.ones(2, 3)
    >>> similarity_terms(student, teacher).mean()  # each row is off by 1 - 1/√2 and by 1/√2
    tensor(0.2929)
    """
    apart = similarities(student) - similarities(teacher)
    return apart.square().sum(dim=1, keepdim=True) / len(apart)


def paired(n_student: int, n_teacher: int, n_pairs: int) -> list[tuple[int, int]]:
    """Return pairs of layers of the same relative depth, the last of both among them.

    >>> paired(6, 12, 3), paired(2, 12, 4)
    ([(1, 3), (3, 7), (5, 11)], [(0, 5), (1, 11)])
    """
    n = min(n_pairs, n_student, n_teacher)
    return [(round(i * n_student / n) - 1, round(i * n_teacher / n) - 1) for i in range(1, n + 1)]


def ramp(step: int, length: int, start: float) -> float:
    """Return the share of the weight at a step: from ``start`` in a straight line to 1.

    >>> [ramp(step, 4, 0.5) for step in (0, 2, 4, 9)]
    [0.5, 0.75, 1.0, 1.0]
    """
    return 1.0 if step >= length else start + (1.0 - start) * step / length


def _of_examples(hidden: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
    """A layer's features (B, D), the mean over the real tokens where it has tokens."""
    hidden = hidden if hidden.dtype == torch.float64 else hidden.float()
    if hidden.dim() == 2:
        return hidden
    mask = inputs.get("attention_mask")
    return pool_mean(hidden, torch.ones(hidden.shape[:2]).to(hidden) if mask is None else mask)


def summed_terms(
    student: Sequence[Tensor], teacher: Sequence[Tensor], inputs: Mapping[str, Tensor], n_pairs: int
) -> Tensor:
    """Return the terms (B, 1) of all pairs of layers together.

    Args:
        student: features of each layer, (B, L, D) or (B, D).
        teacher: of another depth and width.
        inputs: hold the mask of the real tokens, (B, L).
        n_pairs: how many pairs.

    >>> layers, others = [torch.eye(2), torch.ones(2, 2)], [torch.ones(2, 2), torch.eye(2)]
    >>> summed_terms(layers, others, {}, 2).mean(), summed_terms(layers, others, {}, 1).mean()
    (tensor(0.5858), tensor(0.2929))
    """
    pairs = paired(len(student), len(teacher), n_pairs)
    found = [
        similarity_terms(_of_examples(student[s], inputs), _of_examples(teacher[t], inputs)) for s, t in pairs
    ]
    return torch.stack(found).sum(dim=0)


def _load_teacher(folder: str, context: Context) -> Backbone:
    teacher = context.load_model(folder).eval().requires_grad_(False)
    if teacher.fingerprint != context.backbone.fingerprint:
        raise ConfigError(
            f"similarity_distillation: the teacher in {folder} reads inputs of the format "
            f"'{teacher.fingerprint}' and the student '{context.backbone.fingerprint}'; use a teacher with "
            "the student's tokenizer"
        )
    teacher.keep_hidden = True
    return teacher


class SimilarityDistillation(Technique[SimilarityDistillationConfig]):
    """Adds the similarities' loss, of layers that the backbone then hands out."""

    Config = SimilarityDistillationConfig
    facts = Facts(
        family="distill",
        phase=EXTRA_LOSS,
        paper="Tung & Mori 2019, arXiv 1907.09682",
        passes=1.33,
        # Inputs do not change, but the layers under the features are needed, of both models.
        changes_inputs=True,
        split_invariant=False,
        clashes={
            "hidden_mixup": "the teacher would see the unmixed inputs while the student sees mixed ones; "
            "remove one of them"
        },
        neutral={"weight": 0.0},
        example={"teacher": "teacher"},
    )

    def attach(self, plan: Plan) -> None:
        config, context = self.config, plan.context
        if config.weight == 0.0:
            return
        # Held by this closure only: the teacher is no part of the student's weights or checkpoints.
        teacher, length = _load_teacher(config.teacher, context), context.steps(config.ramp)
        low = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(context.precision)

        def keep_hidden(backbone: Backbone) -> Backbone:
            backbone.keep_hidden = True
            return backbone

        def terms(output: Output, batch: Batch, moment: Moment) -> Tensor:
            device = output.logits.device
            teacher.to(device)
            with torch.no_grad(), torch.autocast(device.type, dtype=low, enabled=low is not None):
                told = teacher(batch.inputs).hidden
            share = ramp(moment.step, length, config.start)
            with torch.autocast(device.type, enabled=False):
                return share * summed_terms(output.hidden, told, batch.inputs, config.layers)

        plan.add(MODEL, keep_hidden)
        plan.add(EXTRA_LOSS, ExtraLoss(terms, weight=config.weight))

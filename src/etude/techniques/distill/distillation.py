"""Distillation: learn from a teacher's probabilities beside the labels.

Idea: a trained model's probabilities say which wrong answers are nearly right, which a label does not.
A smaller or a fresh student that matches them learns more from the same rows.

Formula, with student logits z, teacher logits t (B, C) and temperature T:

* loss = (1 - α) · loss of the labels + α T² KL, where T² keeps the gradient's size whatever T is
* one label for each example: KL terms q_c (log q_c - log p_c), p = softmax(z/T), q = softmax(t/T)
* any subset of labels: [q log(q/p) + (1 - q) log((1 - q)/(1 - p))] / C, p = σ(z/T), q = σ(t/T)

Paper: Hinton et al. 2015 (1503.02531), section 2; Beyer et al. 2021 (2106.05237): teacher and student
must see the same inputs, and training should be long.

When it helps: a small model for production; a teacher that is clearly better than the student.
When not: the teacher is no better; the teacher was trained with label smoothing, which erases what
its probabilities would tell (Müller et al. 2019, 1906.02629, section 4; 2010.16402): it is refused
unless ``smoothed_teacher`` says that it shall teach all the same.

Suggested values: α = 0.5 to 0.9, T = 2 to 4; more epochs than without a teacher.

Cost: 1.33 passes for a teacher of the student's size (it only goes forward); the teacher's weights.

Clashes: hidden_mixup, whose mixed inputs exist only inside the student; a teacher that was trained
with label_smoothing.

NOTE[DIFF]: the multilabel form is not in the paper; it is the two-class case applied to each label.
NOTE[DIFF]: the paper's α weighs cross-entropy with soft targets; the KL divergence differs from it by
the teacher's entropy, which has no gradient, so that a perfect student has a loss of zero.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import kl_div, logsigmoid

from etude.config.fields import Probability, SearchRange, setting
from etude.core.backbone import Backbone, Output
from etude.core.batch import Batch
from etude.core.phases import EXTRA_LOSS, ExtraLoss
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Context, Facts, Technique, TechniqueConfig
from etude.errors import ConfigError, ConflictError
from etude.parts.placing import feature_width


class DistillationConfig(TechniqueConfig):
    """Settings of distillation."""

    name: Literal["distillation"] = "distillation"
    teacher: str = setting(help="folder of the saved model that teaches")
    alpha: Probability = setting(
        0.5, help="weight of the teacher against the labels; 0 is no teacher", search=SearchRange(0.1, 0.9)
    )
    temperature: float = setting(
        2.0, help="softens both models' probabilities", gt=0.0, le=100.0, search=SearchRange(1.0, 8.0, "log")
    )
    smoothed_teacher: bool = setting(
        False, help="take a teacher that was trained with label smoothing all the same"
    )


def softmax_kl_terms(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return the terms of T² KL(teacher ‖ student) between softmax distributions.

    Args:
        student: (B, C) logits.
        teacher: (B, C) logits.
        temperature: T > 0 divides both.

    Returns:
        (B, C) terms, whose sum over C is 0 where the distributions agree and positive elsewhere.

    >>> softmax_kl_terms(torch.zeros(1, 2), torch.tensor([[0.0, 2.0]]), 1.0).sum()
    tensor(0.3278)
    """
    log_p = (student / temperature).log_softmax(dim=-1)
    log_q = (teacher / temperature).log_softmax(dim=-1)
    return kl_div(log_p, log_q, reduction="none", log_target=True) * temperature**2


def sigmoid_kl_terms(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return the terms of T² KL(teacher ‖ student) between the labels' own coins, divided by C.

    Arguments and result are those of :func:`softmax_kl_terms`.

    >>> sigmoid_kl_terms(torch.zeros(1, 1), torch.full((1, 1), 2.0), 1.0)
    tensor([[0.3278]])
    """
    z, t = student / temperature, teacher / temperature
    held = kl_div(logsigmoid(z), logsigmoid(t), reduction="none", log_target=True)
    absent = kl_div(logsigmoid(-z), logsigmoid(-t), reduction="none", log_target=True)
    return (held + absent) * (temperature**2 / student.shape[-1])


def n_outputs(model: Backbone) -> int:
    """Return how many logits a model's head gives.

    >>> from etude.testing.tiny import TinyMLP
    >>> n_outputs(TinyMLP(3))
    3
    """
    weights = next(p for p in model.head.parameters() if p.is_floating_point())
    features = weights.new_zeros(1, feature_width(model, "distillation"))
    with torch.no_grad():
        return int(model.head(features).shape[1])


def _load_teacher(config: DistillationConfig, context: Context) -> Backbone:
    folder = config.teacher
    teacher = context.load_model(folder).eval().requires_grad_(False)
    if (found := n_outputs(teacher)) != context.task.n_classes:
        raise ConfigError(
            f"distillation: the teacher in {folder} has {found} labels and the task has "
            f"{context.task.n_classes}; train the teacher on the same labels"
        )
    if "label_smoothing" in teacher.trained_with and not config.smoothed_teacher:
        raise ConflictError(
            f"distillation: the teacher in {folder} was trained with label_smoothing, which erases what its "
            "probabilities would tell; train it without, or set smoothed_teacher = true"
        )
    if teacher.fingerprint != context.backbone.fingerprint:
        raise ConfigError(
            f"distillation: the teacher in {folder} reads inputs of the format '{teacher.fingerprint}' and "
            f"the student '{context.backbone.fingerprint}'; use a teacher with the student's tokenizer"
        )
    return teacher


class Distillation(Technique[DistillationConfig]):
    """Adds the teacher's loss and takes its weight from the labels' loss."""

    Config = DistillationConfig
    facts = Facts(
        family="distill",
        phase=EXTRA_LOSS,
        paper="Hinton et al. 2015, arXiv 1503.02531; Beyer et al. 2021, arXiv 2106.05237",
        passes=1.33,
        # Inputs do not change, but the teacher needs them raw: the student's cached features, which
        # this fact switches off, would mean nothing to it.
        changes_inputs=True,
        clashes={
            "hidden_mixup": "the teacher would see the unmixed inputs while the student sees mixed ones; "
            "remove one of them"
        },
        neutral={"alpha": 0.0},
        example={"teacher": "teacher"},
    )

    def attach(self, plan: Plan) -> None:
        alpha, temperature, context = self.config.alpha, self.config.temperature, plan.context
        if alpha == 0.0:
            return
        # Held by this closure only: the teacher is no part of the student's weights or checkpoints.
        teacher = _load_teacher(self.config, context)
        kl_terms = sigmoid_kl_terms if context.task.kind == "multilabel" else softmax_kl_terms
        low = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(context.precision)

        def terms(output: Output, batch: Batch, moment: Moment) -> Tensor:
            device = output.logits.device
            teacher.to(device)
            with torch.no_grad(), torch.autocast(device.type, dtype=low, enabled=low is not None):
                told = teacher(batch.inputs)
            return kl_terms(output.logits, told.logits.float(), temperature)

        plan.add(EXTRA_LOSS, ExtraLoss(terms, weight=alpha, main_weight=1.0 - alpha))

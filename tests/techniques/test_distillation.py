"""Distillation against KL divergences by hand, and the teacher's place outside the student."""

import copy

import numpy as np
import pytest
import torch
from tiny_contexts import make_context
from torch import Tensor

from etude.core.backbone import Backbone, Output
from etude.core.batch import Batch
from etude.core.phases import EXTRA_LOSS, ExtraLoss
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.errors import ConfigError, ConflictError
from etude.parts import StackedHead
from etude.parts.label_crf import LabelCRF
from etude.techniques.distill.distillation import (
    Distillation,
    DistillationConfig,
    n_outputs,
    sigmoid_kl_terms,
    softmax_kl_terms,
)
from etude.techniques.heads.label_embedding import label_embedding_head
from etude.testing.tiny import TinyMLP, TinyTransformer, tiny_examples

MOMENT = Moment(seed=0, step=0, epoch=0, steps_per_epoch=10, total_steps=10)


def _logits(seed: int) -> Tensor:
    return 3 * torch.randn(16, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_softmax_form_is_the_divergence_of_the_softened_distributions() -> None:
    student, teacher = _logits(0), _logits(1)
    p, q = (student / 3).softmax(-1), (teacher / 3).softmax(-1)
    by_hand = 9 * (q * (q / p).log()).sum(1)
    assert torch.allclose(softmax_kl_terms(student, teacher, 3.0).sum(1), by_hand, rtol=0, atol=1e-12)


def test_sigmoid_form_with_one_label_is_the_two_class_softmax_form() -> None:
    student, teacher = _logits(0)[:, :1], _logits(1)[:, :1]
    two = [torch.cat([torch.zeros_like(x), x], dim=1) for x in (student, teacher)]
    by_softmax = softmax_kl_terms(*two, 2.0).sum(1)
    assert torch.allclose(sigmoid_kl_terms(student, teacher, 2.0).sum(1), by_softmax, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kl_terms", [softmax_kl_terms, sigmoid_kl_terms])
def test_a_perfect_student_has_no_loss_and_no_gradient(kl_terms) -> None:
    student = _logits(0).requires_grad_()
    loss = kl_terms(student, student.detach(), 4.0).sum()
    loss.backward()
    assert abs(loss.item()) < 1e-12
    assert student.grad is not None
    assert student.grad.abs().max() < 1e-12


def test_gradient_keeps_its_size_at_high_temperature() -> None:
    """Hinton et al., equation 4: it tends to the difference of zero-mean logits over C."""
    student, teacher = (_logits(0) / 10).requires_grad_(), _logits(1) / 10
    softmax_kl_terms(student, teacher, 1000.0).sum().backward()
    centred = [x - x.mean(1, keepdim=True) for x in (student.detach(), teacher)]
    assert student.grad is not None
    assert torch.allclose(student.grad, (centred[0] - centred[1]) / 4, atol=1e-3)


def _attached(context, **settings) -> ExtraLoss | None:
    plan = Plan(context)
    plan.attach(Distillation(DistillationConfig(teacher="runs/teacher/model", **settings)))
    extra = plan.many(EXTRA_LOSS)
    return extra[0] if extra else None


@pytest.mark.parametrize("kind", ["multiclass", "multilabel"])
def test_teacher_sees_the_same_inputs_and_stays_as_it_is(kind) -> None:
    teacher: Backbone = TinyTransformer(3, dropout=0.5, seed=1)
    before = copy.deepcopy(teacher.state_dict())
    context = make_context(kind, load_model={"runs/teacher/model": teacher}.__getitem__)
    extra = _attached(context, alpha=0.75, temperature=2.0)
    assert extra is not None
    assert (extra.weight, extra.main_weight) == (0.75, 0.25)

    examples = tiny_examples("text", context.task)
    rows = np.arange(8)
    batch = Batch(examples.inputs(rows), examples.targets[:8], examples.weights[:8], torch.arange(8))
    student = context.backbone
    output = student(batch.inputs)
    terms = extra.terms(Output(output.logits, output.features), batch, MOMENT)
    kl_terms = sigmoid_kl_terms if kind == "multilabel" else softmax_kl_terms
    assert torch.equal(terms, kl_terms(output.logits, teacher(batch.inputs).logits, 2.0))

    terms.sum().backward()
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    assert any(p.grad is not None for p in student.parameters())
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())
    assert not {id(p) for p in teacher.parameters()} & {id(p) for p in student.parameters()}


def test_low_precision_reaches_the_teacher_and_terms_stay_float32() -> None:
    teachers = {"runs/teacher/model": TinyTransformer(3, seed=1)}
    context = make_context(precision="bf16", load_model=teachers.__getitem__)
    extra = _attached(context)
    assert extra is not None
    inputs = tiny_examples("text", context.task).inputs(np.arange(4))
    batch = Batch(inputs, torch.zeros(4, 3), torch.ones(4), torch.arange(4))
    output = context.backbone(inputs)
    low = extra.terms(output, batch, MOMENT)
    exact = softmax_kl_terms(output.logits, teachers["runs/teacher/model"](inputs).logits, 2.0)
    assert low.dtype == torch.float32
    assert not torch.equal(low, exact)
    assert torch.allclose(low, exact, atol=0.05)


def test_alpha_zero_is_absent_and_opens_no_teacher() -> None:
    assert _attached(make_context(), alpha=0.0) is None


def test_a_teacher_of_other_labels_is_refused() -> None:
    with pytest.raises(ConfigError, match="teacher in runs/teacher/model has 5 labels and the task has 3"):
        _attached(make_context(load_model={"runs/teacher/model": TinyTransformer(5)}.__getitem__))


def test_a_teacher_of_other_inputs_is_refused() -> None:
    with pytest.raises(ConfigError, match="format 'mlp-6' and the student 'tiny-50'"):
        _attached(make_context(load_model={"runs/teacher/model": TinyMLP(3)}.__getitem__))


def test_a_teacher_that_was_trained_with_label_smoothing_is_refused_unless_it_is_wanted() -> None:
    """Müller et al. 2019, section 4: what tells wrong answers apart is smoothed away."""
    teacher = TinyTransformer(3, seed=1)
    teacher.trained_with = frozenset({"adamw", "label_smoothing"})
    context = make_context(load_model={"runs/teacher/model": teacher}.__getitem__)
    with pytest.raises(
        ConflictError, match="in runs/teacher/model was trained with label_smoothing, which er"
    ):
        _attached(context)
    assert _attached(context, smoothed_teacher=True) is not None
    teacher.trained_with = frozenset({"adamw"})
    assert _attached(context) is not None


def test_heads_of_any_kind_tell_how_many_labels_they_have() -> None:
    backbone = TinyTransformer(3)
    assert n_outputs(backbone) == 3
    backbone.put_head(StackedHead(label_embedding_head(8, 5), LabelCRF(5, "marginal")))
    assert n_outputs(backbone.eval()) == 5

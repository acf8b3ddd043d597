"""Similarity distillation against its formula in loops, over every layer, and its ramp."""

import math

import numpy as np
import pytest
import torch
from tiny_contexts import make_context
from torch import Tensor

from etude.core.backbone import Output
from etude.core.batch import Batch
from etude.core.phases import EXTRA_LOSS, MODEL, ExtraLoss
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.errors import ConfigError, ConflictError
from etude.techniques import technique_class
from etude.techniques.distill.similarity_distillation import (
    SimilarityDistillation,
    SimilarityDistillationConfig,
    paired,
    similarities,
    similarity_terms,
    summed_terms,
)
from etude.testing.harness import Setup, make_engine, train
from etude.testing.technique_suite import difference, finite
from etude.testing.tiny import TinyMLP, TinyTransformer, tiny_examples

SIMILARITY = technique_class("similarity_distillation")


def features(n: int, width: int, seed: int) -> Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_loops(student: Tensor, teacher: Tensor) -> float:
    """||G_S - G_T||² / b² of the paper, one entry after the other."""
    rows = []
    for values in (student, teacher):
        b = len(values)
        q = [[sum(float(x * y) for x, y in zip(values[i], values[j], strict=True)) for j in range(b)]
             for i in range(b)]  # fmt: skip
        rows.append([[entry / math.sqrt(sum(e * e for e in row)) for entry in row] for row in q])
    b = len(student)
    return sum((rows[0][i][j] - rows[1][i][j]) ** 2 for i in range(b) for j in range(b)) / b**2


def test_formula_in_loops_for_other_widths() -> None:
    student, teacher = features(5, 3, 0), features(5, 7, 1)
    found = similarity_terms(student, teacher).mean().item()
    assert found == pytest.approx(by_loops(student, teacher), abs=1e-12)


def test_rows_of_similarities_have_length_one_and_rotations_do_not_matter() -> None:
    values = features(6, 4, 0)
    assert torch.allclose(similarities(values).norm(dim=1), torch.ones(6, dtype=torch.float64))
    rotation = torch.linalg.qr(features(4, 4, 1)).Q
    assert similarity_terms(values @ rotation, 3.0 * values).abs().max() < 1e-12


def test_the_sum_does_not_end_with_the_first_layer() -> None:
    student = [features(5, 3, seed) for seed in range(3)]
    teacher = [features(5, 6, seed) for seed in range(10, 13)]
    expected = sum(by_loops(s, t) for s, t in zip(student, teacher, strict=True))
    assert summed_terms(student, teacher, {}, 3).mean().item() == pytest.approx(expected, abs=1e-12)
    # Each layer matters, the last one as well as the first.
    for at in range(3):
        other = [*teacher]
        other[at] = features(5, 6, 99)
        assert summed_terms(student, other, {}, 3).mean().item() != pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ((6, 6, 2), [(2, 2), (5, 5)]),
        ((6, 12, 6), [(0, 1), (1, 3), (2, 5), (3, 7), (4, 9), (5, 11)]),
        ((12, 2, 4), [(5, 0), (11, 1)]),
        ((3, 3, 1), [(2, 2)]),
    ],
)
def test_pairs_of_layers(numbers: tuple[int, int, int], expected: list[tuple[int, int]]) -> None:
    assert paired(*numbers) == expected


def test_padding_does_not_count() -> None:
    layer, mask = features(4, 6, 0).view(4, 3, 2), torch.tensor([[1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 1, 1]])
    other = layer.masked_fill(mask[:, :, None] == 0, 50.0)
    teacher = [features(4, 5, 3)]
    mine, theirs = (summed_terms([value], teacher, {"attention_mask": mask}, 1) for value in (layer, other))
    assert torch.equal(mine, theirs)
    means = torch.stack([layer[b, : int(n)].mean(dim=0) for b, n in enumerate(mask.sum(dim=1))])
    assert mine.mean().item() == pytest.approx(by_loops(means, teacher[0]), abs=1e-12)


def attached(**settings: object) -> tuple[Plan, TinyTransformer]:
    teacher = TinyTransformer(3, d_model=12, n_blocks=4, seed=1)
    context = make_context(load_model={"teacher": teacher}.__getitem__)
    plan = Plan(context)
    technique = SimilarityDistillation(SimilarityDistillationConfig(teacher="teacher", **settings))
    plan.attach(technique)
    return plan, teacher


def test_the_weight_rises_in_a_line_and_stays() -> None:
    plan, teacher = attached(weight=5.0, start=0.25, ramp="10st", layers=2)
    extra: ExtraLoss = plan.many(EXTRA_LOSS)[0]
    assert (extra.weight, extra.main_weight) == (5.0, 1.0)
    student = plan.many(MODEL)[0](plan.context.backbone)
    inputs = tiny_examples("text", plan.context.task).inputs(np.arange(6))
    batch = Batch(inputs, torch.zeros(6, 3), torch.ones(6), torch.arange(6))
    output: Output = student(inputs)
    assert len(output.hidden) == 2
    with torch.no_grad():
        told = teacher(inputs).hidden
    full = summed_terms(output.hidden, [told[1], told[3]], inputs, 2)
    for step, share in [(0, 0.25), (4, 0.55), (10, 1.0), (30, 1.0)]:
        found = extra.terms(output, batch, Moment(0, step, 0, 10, 40))
        assert torch.allclose(found, share * full, atol=1e-7)
    full.sum().backward()
    assert all(value.grad is None for value in teacher.parameters())
    assert all(block.weight.grad is not None for block in [student.get_submodule("layers.0.out")])


def test_it_draws_the_students_layers_to_the_teachers() -> None:
    setup = Setup(double=True, epochs=8, n_rows=8)
    apart = []
    for weight in (0.0, 100.0):
        engine = make_engine({SIMILARITY: {"weight": weight, "ramp": "1st"}}, setup)
        engine.fit()
        inputs = engine.train.inputs(np.arange(8))
        teacher = engine.plan.context.load_model("teacher")
        for model in (teacher, engine.backbone):
            model.keep_hidden = True
        with torch.no_grad():
            mine, theirs = engine.backbone.eval()(inputs).hidden, teacher.eval()(inputs).hidden
            apart.append(summed_terms(mine, theirs, inputs, 2).mean().item())
    assert apart[1] < apart[0] / 2


def test_tables_have_layers_too() -> None:
    assert finite(train({SIMILARITY: {}}, Setup(modality="table", kind="multilabel")))


def test_no_weight_opens_no_teacher() -> None:
    plan = Plan(make_context())
    plan.attach(SimilarityDistillation(SimilarityDistillationConfig(teacher="nowhere", weight=0.0)))
    assert not plan.entries()


def test_both_distillations_together_teach_more_than_one() -> None:
    both = train({SIMILARITY: {}, technique_class("distillation"): {}}, Setup())
    assert difference(both, train({technique_class("distillation"): {}}, Setup())) > 0
    assert difference(both, train({SIMILARITY: {}}, Setup())) > 0


def test_a_teacher_of_other_inputs_and_mixed_texts_are_refused() -> None:
    context = make_context(load_model={"teacher": TinyMLP(3)}.__getitem__)
    technique = SimilarityDistillation(SimilarityDistillationConfig(teacher="teacher"))
    with pytest.raises(
        ConfigError, match=r"similarity_distillation: the teacher .* format 'mlp-6' and the st"
    ):
        Plan(context).attach(technique)
    with pytest.raises(ConflictError, match="similarity_distillation clashes with hidden_mixup"):
        make_engine({SIMILARITY: {}, technique_class("hidden_mixup"): {}}, Setup())

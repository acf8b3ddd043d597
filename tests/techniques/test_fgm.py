"""FGM against the paper's formula on a real model, each example with its own norm, and exact under all."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from etude.core.backbone import Backbone
from etude.core.phases import FORWARD, PERTURB
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Context
from etude.errors import ConflictError
from etude.techniques import technique_class
from etude.techniques.perturb.fgm import FGM, Attack, FGMConfig, adversarial_gradients, worst_change
from etude.testing.harness import Setup, make_engine, train
from etude.testing.technique_suite import difference, split_difference
from etude.testing.tiny import tiny_backbone, tiny_examples, tiny_task

TASK = tiny_task("multiclass")


def model_and_batch() -> tuple[Backbone, Mapping[str, Tensor], Tensor]:
    backbone, examples = tiny_backbone("text", TASK).double(), tiny_examples("text", TASK, 6)
    inputs = examples.inputs(torch.arange(6).numpy())
    return backbone, inputs, examples.targets.double()


def loss_of(backbone: Backbone, inputs: Mapping[str, Tensor], targets: Tensor, change: Any = None) -> Tensor:
    def transform(_: Backbone, embedding: Tensor, __: Mapping[str, Tensor]) -> Tensor:
        return embedding if change is None else embedding + change

    return cross_entropy(backbone(inputs, transform).logits, targets)


def test_equals_the_papers_formula() -> None:
    backbone, inputs, targets = model_and_batch()
    params = list(backbone.parameters())
    embedding = backbone.embed(inputs).detach()
    change = torch.zeros_like(embedding, requires_grad=True)
    (g,) = torch.autograd.grad(loss_of(backbone, inputs, targets, change), change)
    r = torch.stack([0.7 * one / one.norm() for one in g])
    clean = torch.autograd.grad(loss_of(backbone, inputs, targets), params)
    there = torch.autograd.grad(loss_of(backbone, inputs, targets, r), params)

    attack = Attack(0.7)

    def gradients() -> Tensor:
        backbone.zero_grad()
        loss = cross_entropy(backbone(inputs, attack).logits, targets)
        loss.backward()
        return loss.detach()

    loss = adversarial_gradients(gradients, params, attack)
    torch.testing.assert_close(loss, loss_of(backbone, inputs, targets).detach())
    for value, a, b in zip(params, clean, there, strict=True):
        assert value.grad is not None
        torch.testing.assert_close(value.grad, a + b, rtol=0, atol=1e-12)
    worse = loss_of(backbone, inputs, targets, r).detach()
    assert float(worse) > float(loss)


def test_each_example_has_its_own_norm_and_padding_stays() -> None:
    gradient = torch.randn(4, 5, 3, dtype=torch.float64)
    gradient[1, 3:] = 0.0
    gradient[2] = 0.0
    change = worst_change(gradient, 2.0)
    assert change.flatten(1).norm(dim=1).tolist() == pytest.approx([2.0, 2.0, 0.0, 2.0])
    assert change[1, 3:].abs().max() == 0


def test_gradients_too_small_for_half_precision_still_have_a_direction() -> None:
    change = worst_change(torch.full((1, 4), 1e-30, dtype=torch.bfloat16), 1.0)
    assert change.dtype == torch.bfloat16
    assert change.float().norm().item() == pytest.approx(1.0, rel=1e-2)


@pytest.mark.parametrize("others", [("hidden_mixup",), ("hard_examples",), ("hidden_mixup", "clip")])
def test_accumulation_mixup_and_filters_change_nothing(others: tuple[str, ...]) -> None:
    recipe = {technique_class(name): {} for name in ("fgm", *others)}
    assert split_difference(recipe, Setup()) <= 1e-9


def test_the_mixed_embedding_is_what_moves(tiny_context: Any, moment: Moment) -> None:
    context: Context = tiny_context()
    plan = Plan(context)
    plan.attach(FGM(FGMConfig()))
    plan.attach(technique_class("hidden_mixup")(technique_class("hidden_mixup").Config(name="hidden_mixup")))
    assert [e.technique for e in plan.entries() if e.phase is FORWARD] == ["hidden_mixup", "fgm"]


def test_a_frozen_backbones_head_learns_from_the_neighbours_too() -> None:
    """Cached features would leave the embedding out, so that the clean gradient counted twice."""
    fgm, freeze = technique_class("fgm"), technique_class("freeze")
    frozen = {freeze: {"until": "1dur"}}
    engine = make_engine({fgm: {}, **frozen}, Setup())
    assert engine.plan.changes_inputs()
    sgd = {technique_class("sgd"): {"lr": 0.1}}
    adversarial = train({fgm: {"epsilon": 5.0}, **frozen, **sgd}, Setup())
    doubled = train({**frozen, technique_class("sgd"): {"lr": 0.2}}, Setup())
    assert difference(adversarial, doubled) > 1e-4


def test_a_second_pass_that_fails_leaves_nothing_behind() -> None:
    backbone, inputs, targets = model_and_batch()
    attack, calls = Attack(0.5), []

    def gradients() -> Tensor:
        calls.append(1)
        if len(calls) == 2:
            raise MemoryError("out of memory")
        loss = cross_entropy(backbone(inputs, attack).logits, targets)
        loss.backward()
        return loss.detach()

    with pytest.raises(MemoryError):
        adversarial_gradients(gradients, list(backbone.parameters()), attack)
    with torch.no_grad():
        after = cross_entropy(backbone(inputs, attack).logits, targets)
    torch.testing.assert_close(after, loss_of(backbone, inputs, targets).detach())


def test_tables_have_no_embedding() -> None:
    with pytest.raises(ConflictError, match="fgm needs a backbone with 'embed' and TinyMLP has none"):
        make_engine({technique_class("fgm"): {}}, Setup(modality="table"))


def test_epsilon_zero_is_absent_and_others_act(tiny_context: Any) -> None:
    plan = Plan(tiny_context())
    plan.attach(FGM(FGMConfig(epsilon=0.0)))
    assert plan.entries() == []
    plan.attach(FGM(FGMConfig(epsilon=0.1)))
    assert plan.one(PERTURB) is not None


def test_bounds_name_the_value() -> None:
    with pytest.raises(ValueError, match=r"epsilon is -1\.0 and must be 0 or more"):
        worst_change(torch.ones(1, 2), -1.0)

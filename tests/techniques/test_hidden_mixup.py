"""Hidden mixup by hand on a tiny real backbone, whole and in micro-batches."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from etude.core.backbone import Output, Transform
from etude.core.batch import Batch
from etude.core.phases import FORWARD, MIX
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.core.technique import Context
from etude.techniques.mixing.hidden_mixup import HiddenMixup, HiddenMixupConfig, mix


@pytest.fixture
def batch() -> Batch:
    ids = torch.tensor([[1, 5, 6, 2, 0], [1, 7, 2, 0, 0], [1, 8, 9, 10, 2], [1, 11, 2, 0, 0]])
    inputs = {"input_ids": ids, "attention_mask": (ids != 0).long()}
    return Batch(inputs, torch.eye(3)[[0, 1, 2, 1]], torch.tensor([1.0, 2.0, 1.0, 0.5]), torch.arange(4))


def attached(context: Context, **settings: float | bool) -> Plan:
    plan = Plan(context)
    plan.attach(HiddenMixup(HiddenMixupConfig(**settings)))
    return plan


def run(plan: Plan, batch: Batch, moment: Moment) -> Tensor:
    """The logits of a mixed batch, through the forward phase and the real model."""

    def call(inner: Batch, transform: Transform | None = None) -> Output:
        return plan.context.backbone(inner.inputs, transform)

    return plan.many(FORWARD)[0](call, batch, moment).logits


def mixed(plan: Plan, batch: Batch, moment: Moment) -> Batch:
    change = plan.one(MIX)
    assert change is not None
    return change(batch, moment)


def partners_of(batch: Batch, before: Batch) -> Tensor:
    """The partners, found again by their ids."""
    theirs = batch.inputs["mix.partner.input_ids"]
    return torch.stack([(before.inputs["input_ids"] == row).all(1).nonzero()[0, 0] for row in theirs])


@pytest.mark.parametrize("per_example", [False, True])
def test_targets_and_logits_by_hand(
    per_example: bool, batch: Batch, moment: Moment, tiny_context: Callable[..., Context]
) -> None:
    plan = attached(tiny_context(), alpha=1.0, per_example=per_example)
    new = mixed(plan, batch, moment)
    lam, j = new.inputs["mix.lam"], partners_of(new, batch)
    assert len(lam.unique()) == (4 if per_example else 1)
    assert torch.equal(new.targets, lam[:, None] * batch.targets + (1 - lam[:, None]) * batch.targets[j])
    assert torch.equal(new.weights, batch.weights)

    model, masks = plan.context.backbone, batch.inputs["attention_mask"]
    e = model.embed(batch.inputs) * masks[..., None]
    e = lam[:, None, None] * e + (1 - lam[:, None, None]) * e[j]
    features = model.features_from(e, {"attention_mask": torch.maximum(masks, masks[j])})
    torch.testing.assert_close(run(plan, new, moment), model.head(features), rtol=0, atol=1e-6)


def test_micro_batches_give_the_same_logits(
    batch: Batch, moment: Moment, tiny_context: Callable[..., Context]
) -> None:
    plan = attached(tiny_context(), alpha=1.0, per_example=True)
    new = mixed(plan, batch, moment)
    parts = torch.cat([run(plan, part, moment) for part in new.split(1)])
    torch.testing.assert_close(parts, run(plan, new, moment), rtol=0, atol=1e-6)


def test_gradients_reach_both_texts(
    batch: Batch, moment: Moment, tiny_context: Callable[..., Context]
) -> None:
    plan = attached(tiny_context(), alpha=1.0)
    new = mixed(plan, batch, moment)
    i = int((partners_of(new, batch) != torch.arange(4)).nonzero()[0, 0])
    run(plan, new.select(slice(i, i + 1)), moment).sum().backward()
    touched = plan.context.backbone.embeddings.weight.grad.abs().sum(1).nonzero().flatten()
    own, theirs = new.inputs["input_ids"][i], new.inputs["mix.partner.input_ids"][i]
    assert set(touched.tolist()) == (set(own.tolist()) | set(theirs.tolist())) - {0}


def test_neither_the_batch_nor_the_draw_changes(
    batch: Batch, moment: Moment, tiny_context: Callable[..., Context]
) -> None:
    plan = attached(tiny_context(), alpha=0.4)
    before = {name: value.clone() for name, value in batch.inputs.items()}
    one, other = mixed(plan, batch, moment), mixed(plan, batch, moment)
    run(plan, one, moment)
    assert all(torch.equal(value, before[name]) for name, value in batch.inputs.items())
    assert torch.equal(one.inputs["attention_mask"], before["attention_mask"])
    assert torch.equal(one.targets, other.targets)


def test_alpha_zero_is_absent(tiny_context: Callable[..., Context]) -> None:
    assert attached(tiny_context(), alpha=0.0).entries() == []


def test_shapes_are_named() -> None:
    with pytest.raises(ValueError, match=r"lam has shape \(2,\) and must have \(3,\)"):
        mix(torch.ones(3, 1), torch.ones(3, 1), torch.ones(2))

"""One step: one reduction, one normaliser, and nothing half done."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from etude.core.backbone import Output, Transform
from etude.core.batch import Batch
from etude.core.examples import Examples
from etude.core.forward import wrapped
from etude.core.phases import ModelCall
from etude.core.plan import Plan, build_plan
from etude.core.rng import Moment
from etude.core.step import Step
from etude.core.technique import Context
from etude.errors import ConflictError
from etude.techniques import technique_class
from etude.testing.harness import Setup, complete, make, make_engine
from etude.testing.tiny import cpu_accelerator, tiny_backbone, tiny_examples, tiny_task

TASK = tiny_task("multiclass")
EXAMPLES = tiny_examples("table", TASK, n=8)
MOMENT = Moment(seed=0, step=0, epoch=0, steps_per_epoch=1, total_steps=4)


def batch_of(rows: list[int], weights: list[float] | None = None, examples: Examples = EXAMPLES) -> Batch:
    ids = np.array(rows)
    given = torch.ones(len(rows)) if weights is None else torch.tensor(weights)
    return Batch(examples.inputs(ids), examples.targets[torch.from_numpy(ids)], given, torch.from_numpy(ids))


class Trial:
    """A step on the tiny MLP, with plain SGD unless told otherwise."""

    def __init__(self, micro_batch_size: int = 99, **techniques: dict[str, Any]) -> None:
        self.backbone = tiny_backbone("table", TASK)
        context = Context(TASK, self.backbone, np.ones(3), 8, 8, 1, 4, 0, lambda _path: self.backbone)
        recipe = complete({technique_class(name): said for name, said in techniques.items()}, "multiclass")
        plan = build_plan([make(cls, said) for cls, said in recipe.items()], context)
        self.optimizer = torch.optim.SGD(self.backbone.parameters(), lr=0.5)
        self.step = Step(
            plan, self.backbone, self.backbone, self.optimizer, cpu_accelerator(), micro_batch_size
        )

    def __call__(self, batch: Batch) -> Any:
        return self.step(batch, MOMENT)

    def weights(self) -> Tensor:
        return torch.cat([value.detach().flatten() for value in self.backbone.parameters()])


@pytest.mark.parametrize("micro", [99, 3, 1])
@pytest.mark.parametrize("techniques", [{}, {"class_weights": {}}, {"label_smoothing": {}}], ids=str)
def test_a_weight_of_two_is_the_row_twice(micro: int, techniques: dict[str, Any]) -> None:
    weighted, repeated = Trial(micro, **techniques), Trial(micro, **techniques)
    weighted(batch_of([0, 1, 2, 3, 4], [1.0, 2.0, 0.0, 3.0, 1.0]))
    repeated(batch_of([0, 1, 1, 3, 3, 3, 4]))
    assert torch.allclose(weighted.weights(), repeated.weights(), atol=1e-6)
    assert not torch.allclose(weighted.weights(), Trial().weights(), atol=1e-3)


@pytest.mark.parametrize("micro", [99, 3, 1])
def test_there_is_one_normaliser(micro: int) -> None:
    """The loss is the weighted mean over the macro-batch, however it is split."""
    weights, trial = [1.0, 0.0, 2.5, 0.5], Trial(micro)
    inputs, targets = EXAMPLES.inputs(np.arange(4)), EXAMPLES.targets[:4].argmax(dim=1)
    with torch.no_grad():
        losses = cross_entropy(trial.backbone(inputs).logits, targets, reduction="none")
    expected = (losses * torch.tensor(weights)).sum() / 4.0
    assert torch.allclose(trial(batch_of([0, 1, 2, 3], weights)).loss, expected, atol=1e-6)


def test_scaling_all_weights_changes_nothing() -> None:
    one, ten = Trial(2), Trial(2)
    one(batch_of([0, 1, 2, 3, 4], [1.0, 2.0, 0.5, 0.0, 1.0]))
    ten(batch_of([0, 1, 2, 3, 4], [10.0, 20.0, 5.0, 0.0, 10.0]))
    assert torch.allclose(one.weights(), ten.weights(), atol=1e-6)


@pytest.mark.parametrize("micro", [99, 2])
def test_the_filter_sees_the_macro_batch(micro: int) -> None:
    """The hardest half of 6 rows may lie in one micro-batch."""
    with torch.no_grad():
        trial = Trial(micro, hard_examples={"share": 0.5})
        logits = trial.backbone(EXAMPLES.inputs(np.arange(6))).logits
        losses = cross_entropy(logits, EXAMPLES.targets[:6].argmax(dim=1), reduction="none")
    order = losses.argsort(descending=True).tolist()
    kept = Trial(99)
    trial(batch_of(order)), kept(batch_of(order[:3]))
    assert torch.allclose(trial.weights(), kept.weights(), atol=1e-6)


@pytest.mark.parametrize("micro", [99, 2])
def test_a_batch_of_weight_zero_moves_nothing(micro: int) -> None:
    trial = Trial(micro)
    before = trial.weights()
    result = trial(batch_of([0, 1, 2], [0.0, 0.0, 0.0]))
    assert torch.equal(trial.weights(), before)
    assert result.loss == 0


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("techniques", [{}, {"sam": {}}, {"clip": {}}, {"ema": {}}], ids=str)
def test_a_step_that_is_not_finite_changes_nothing(bad: float, techniques: dict[str, Any]) -> None:
    trial, batch = Trial(2, **techniques), batch_of([0, 1, 2, 3])
    before = trial.weights()
    numbers = batch.inputs["numbers"].clone()
    numbers[3, 0] = bad
    result = trial(batch.with_inputs(numbers=numbers))
    assert not result.done
    assert torch.equal(trial.weights(), before)
    assert all(value.grad is None for value in trial.backbone.parameters())
    assert trial(batch).done


def test_the_norm_is_the_gradients_before_clipping() -> None:
    free, tight = Trial(clip={"max_norm": 1e9}), Trial(clip={"max_norm": 0.01})
    before = tight.weights()
    result = free(batch_of([0, 1, 2])), tight(batch_of([0, 1, 2]))
    assert result[0].grad_norm == result[1].grad_norm > 0.01
    moved = (tight.weights() - before).norm()
    assert abs(moved - 0.5 * 0.01) < 1e-5
    assert Trial()(batch_of([0])).grad_norm is None


def test_two_wrapped_forwards_chain_their_transforms() -> None:
    """The outer technique's change of the embedding acts before the inner one's."""

    def plain(batch: Batch, transform: Transform | None = None) -> Output:
        embedding = batch.inputs["numbers"]
        changed = embedding if transform is None else transform(backbone, embedding, batch.inputs)
        return Output(changed, embedding)

    def adds_one(call: ModelCall, batch: Batch, moment: Moment) -> Output:
        return call(batch, lambda _backbone, embedding, _inputs: embedding + 1)

    def doubles(call: ModelCall, batch: Batch, moment: Moment) -> Output:
        return call(batch, lambda _backbone, embedding, _inputs: embedding * 2)

    backbone, batch = Trial().backbone, batch_of([0, 1])
    numbers = batch.inputs["numbers"]
    both = wrapped(plain, [adds_one, doubles], MOMENT)(batch).logits
    assert torch.equal(both, (numbers + 1) * 2)
    assert torch.equal(wrapped(plain, [doubles, adds_one], MOMENT)(batch).logits, numbers * 2 + 1)
    assert torch.equal(wrapped(plain, [adds_one], MOMENT)(batch).logits, numbers + 1)
    assert torch.equal(wrapped(plain, [], MOMENT)(batch).logits, numbers)


def test_a_step_needs_a_loss() -> None:
    backbone = tiny_backbone("table", TASK)
    plan = Plan(Context(TASK, backbone, np.ones(3), 8, 8, 1, 4, 0, lambda _path: backbone))
    with pytest.raises(ConflictError, match="the plan has no loss"):
        Step(plan, backbone, backbone, None, cpu_accelerator(), 8)


def test_dropout_masks_of_micro_batches_differ() -> None:
    """Else rows at the same place of each micro-batch would lose the same units."""
    seen: list[Tensor] = []
    engine = make_engine({}, Setup("table", dropout=0.5, micro_batch_size=4, max_steps=1))
    engine.backbone.head.register_forward_hook(lambda _module, args, _output: seen.append(args[0].detach()))
    engine.fit()
    assert len(seen) == 2
    assert not torch.equal(seen[0] == 0, seen[1] == 0)

"""The loss in float64: what float32 rounds away, the second pass, and the loss that follows."""

from functools import partial

import pytest
import torch
from tiny_contexts import make_context

from etude.core.backbone import Output, Transform
from etude.core.batch import Batch
from etude.core.phases import FORWARD, LOSS
from etude.core.plan import build_plan
from etude.core.rng import Moment
from etude.errors import ConfigError
from etude.techniques import catalogue
from etude.techniques.stability.float64_loss import (
    Float64Loss,
    Float64LossConfig,
    output_in_float64,
    to_float64,
)
from etude.testing.harness import make

NOW = Moment(0, 3, 0, 10, 40)


def test_a_sure_example_keeps_a_loss_and_a_gradient() -> None:
    """At a distance of 20, float32 has 1 - p = 0; exactly it is 2.06e-9."""
    found = {}
    for name, change in (("float32", lambda z: z), ("float64", to_float64)):
        logits = torch.tensor([20.0, 0.0], requires_grad=True)
        loss = -change(logits).log_softmax(0)[0]
        loss.backward()
        assert logits.grad is not None
        assert logits.grad.dtype == torch.float32
        found[name] = (loss.item(), logits.grad[0].item())
    assert found["float32"] == (0.0, 0.0)
    assert found["float64"] == pytest.approx((2.0611536e-9, -2.0611536e-9), rel=1e-6)


def test_a_second_pass_is_raised_as_well() -> None:
    features = torch.zeros(2, 4)
    output = Output(torch.zeros(2, 3), features, again=Output(torch.ones(2, 3), features))
    raised = output_in_float64(output)
    assert raised.again is not None
    assert raised.logits.dtype == raised.again.logits.dtype == torch.float64
    assert raised.features is features
    assert torch.equal(raised.again.logits, torch.ones(2, 3, dtype=torch.float64))


def test_is_the_outermost_wrapper() -> None:
    """It must see the logits that the other wrappers of the forward pass give."""
    listed = [make(catalogue()[name], {}) for name in ("bce", "float64_loss", "hidden_mixup")]
    plan = build_plan(listed, make_context("multilabel"))
    acting = [entry.technique for entry in plan.entries() if entry.phase is FORWARD]
    assert acting == ["float64_loss", "hidden_mixup"]


def _answer(output: Output, batch: Batch, transform: Transform | None = None) -> Output:
    return output


def test_every_loss_of_the_catalogue_stays_in_float64() -> None:
    losses = [technique for technique in catalogue().values() if technique.facts.phase is LOSS]
    assert len(losses) >= 11
    for technique in losses:
        kind = "multiclass" if "multiclass" in technique.facts.tasks else "multilabel"
        plan = build_plan([make(technique, {}), Float64Loss(Float64LossConfig())], make_context(kind))
        loss, forwards = plan.one(LOSS), plan.many(FORWARD)
        assert loss is not None
        output = Output(torch.randn(2, 3, generator=torch.Generator().manual_seed(0)), torch.zeros(2, 8))
        batch = Batch({}, torch.eye(3)[:2], torch.ones(2), torch.arange(2))
        raised = forwards[0](partial(_answer, output), batch, NOW)
        assert loss(raised, batch, NOW).dtype == torch.float64, technique.key()


def test_a_device_without_float64_is_refused() -> None:
    class OnApple(torch.Tensor):
        """A tensor that says it lies on an Apple GPU, which this machine need not have."""

        @property
        def device(self) -> torch.device:
            return torch.device("mps")

    logits = torch.zeros(2, 3).as_subclass(OnApple)
    with pytest.raises(ConfigError, match="the device mps has no float64; remove float64_loss"):
        to_float64(logits)

"""Progressive dropout: the linear rise by epoch and by step, and which modules it reaches."""

import pytest
from tiny_contexts import make_context
from torch import nn

from etude.core.phases import ADJUST
from etude.core.plan import Plan
from etude.core.rng import Moment
from etude.techniques.curriculum.progressive_dropout import (
    ProgressiveDropout,
    ProgressiveDropoutConfig,
    dropout_rate,
    dropouts,
)
from etude.testing.tiny import TinyTransformer


def _rates(context, steps: list[int], **settings) -> list[list[float]]:
    """The rates of all dropout modules (two blocks, then the head) at some steps; 10 make an epoch."""
    plan = Plan(context)
    plan.attach(ProgressiveDropout(ProgressiveDropoutConfig(**settings)))
    (adjust,) = plan.many(ADJUST)
    model = TinyTransformer(3, dropout=0.1)
    rates = []
    for step in steps:
        adjust(model, Moment(seed=0, step=step, epoch=step // 10, steps_per_epoch=10, total_steps=40))
        rates.append([module.p for module in dropouts(model)])
    return rates


def test_by_epoch_from_nothing_to_one_half_over_two_epochs() -> None:
    rates = _rates(make_context(), [0, 9, 10, 19, 20, 30])
    assert rates == [[p] * 3 for p in (0.0, 0.0, 0.25, 0.25, 0.5, 0.5)]


def test_by_step() -> None:
    rates = _rates(make_context(), [0, 5, 20, 39], per="step", over="0.5dur", start=0.1, end=0.3)
    assert [r[0] for r in rates] == pytest.approx([0.1, 0.15, 0.3, 0.3])


def test_head_only_leaves_the_body_as_it_was() -> None:
    assert _rates(make_context(), [20], where="head") == [[0.1, 0.1, 0.5]]


def test_the_rate_may_fall_and_a_rise_of_no_steps_is_over() -> None:
    assert [dropout_rate(0.5, 0.1, share) for share in (0.0, 1.0, 2.0)] == pytest.approx([0.5, 0.1, 0.1])
    assert _rates(make_context(), [0], over="0st")[0] == [0.5] * 3


class KeyedDropout(nn.Module):
    """Stands for any dropout module that is not torch's own."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p


def test_finds_modules_by_the_end_of_their_class_name() -> None:
    model = nn.Sequential(nn.Linear(1, 1), KeyedDropout(0.2), nn.Dropout(0.1), nn.PairwiseDistance(2.0))
    assert [type(module).__name__ for module in dropouts(model)] == ["KeyedDropout", "Dropout"]

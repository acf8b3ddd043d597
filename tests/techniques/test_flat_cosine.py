"""Three quarters flat, one quarter down: fastai's numbers."""

import math
from collections.abc import Callable

import pytest

from etude.core.phases import SCHEDULE
from etude.core.plan import Plan
from etude.core.technique import Context
from etude.techniques.schedules.cosine import half_cosine
from etude.techniques.schedules.flat_cosine import FlatCosine, FlatCosineConfig, flat_cosine


def test_defaults_are_those_of_fastai(tiny_context: Callable[..., Context]) -> None:
    plan = Plan(tiny_context())
    plan.attach(FlatCosine(FlatCosineConfig()))
    factor = plan.one(SCHEDULE)
    assert factor is not None
    assert [factor(p) for p in (0.0, 0.5, 0.75)] == [1.0, 1.0, 1.0]
    assert factor(0.8) == pytest.approx(1e-5 + (1 - 1e-5) * (1 + math.cos(math.pi / 5)) / 2, abs=1e-15)
    assert factor(1.0) == pytest.approx(1e-5, abs=1e-18)


def test_without_a_flat_part_it_is_the_cosine() -> None:
    shares = [step / 10 for step in range(11)]
    assert [flat_cosine(p, 0.0, 0.1) for p in shares] == pytest.approx([half_cosine(p, 0.1) for p in shares])


def test_bounds_name_the_value() -> None:
    with pytest.raises(ValueError, match=r"progress is -0.5 and must lie in \[0, 1\]"):
        flat_cosine(-0.5, 0.75)

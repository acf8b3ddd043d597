"""Growing cycles: where they end, their shape, and the curve that they log."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from etude.core.phases import SCHEDULE
from etude.core.plan import Plan
from etude.core.technique import Context
from etude.errors import ConfigError
from etude.techniques.schedules.growing_cycles import (
    GrowingCycles,
    GrowingCyclesConfig,
    cycle_ends,
    rise_and_fall,
)
from etude.testing.harness import Setup, make_engine
from etude.testing.tiny import tiny_examples, tiny_task


def test_each_cycle_is_a_whole_rise_and_fall_twice_as_long(tiny_context: Callable[..., Context]) -> None:
    plan = Plan(tiny_context(total_steps=70))
    plan.attach(GrowingCycles(GrowingCyclesConfig(rise=0.2)))
    factor = plan.one(SCHEDULE)
    assert factor is not None
    found = [factor(step / 70) for step in (0, 1, 2, 6, 10, 12, 14, 22, 30, 34, 38, 54, 70)]
    assert found == pytest.approx([0, 0.5, 1, 0.5, 0, 0.5, 1, 0.5, 0, 0.5, 1, 0.5, 0], abs=1e-12)


def test_cycles_of_one_length_are_equal() -> None:
    assert cycle_ends(4, 1.0) == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert cycle_ends(1, 2.0) == [0.0, 1.0]


def test_the_end_of_each_cycle_is_scored_and_logged() -> None:
    logged: list[Mapping[str, Any]] = []
    validation = tiny_examples("text", tiny_task("multiclass"), 9, seed=1)
    engine = make_engine(
        {GrowingCycles: {"cycles": 2}}, Setup(), validation=validation, score=lambda *_: {"n": 9.0}
    )
    engine.attach_folder(log=logged.append, checkpoints=None)
    engine.fit()
    assert [line["cycle"] for line in logged if "cycle" in line] == [
        {"number": 1, "steps": 2, "n": 9.0},
        {"number": 2, "steps": 6, "n": 9.0},
    ]
    assert [line["step"] for line in logged if "validation" in line] == [2, 6]


def test_more_cycles_than_steps_are_refused(tiny_context: Callable[..., Context]) -> None:
    plan = Plan(tiny_context(total_steps=5))
    with pytest.raises(ConfigError, match="a run of 5 steps into 4 cycles, of which one has no step; lower"):
        plan.attach(GrowingCycles(GrowingCyclesConfig(cycles=4)))


def test_bounds_name_the_value() -> None:
    with pytest.raises(ValueError, match=r"3 cycles that grow by 0.5 and both must be at least 1"):
        cycle_ends(3, 0.5)
    with pytest.raises(ValueError, match=r"progress is 2.0 and must lie in \[0, 1\]"):
        rise_and_fall(2.0, 0.1)

"""Smith's triangles by hand, and the settings of one mode in another."""

from collections.abc import Callable

import pytest
from pydantic import ValidationError

from etude.core.phases import SCHEDULE
from etude.core.plan import Plan
from etude.core.technique import Context
from etude.techniques.schedules.triangular import Triangular, TriangularConfig, triangle


def test_four_cycles_of_the_default(tiny_context: Callable[..., Context]) -> None:
    plan = Plan(tiny_context(total_steps=40))
    plan.attach(Triangular(TriangularConfig()))
    factor = plan.one(SCHEDULE)
    assert factor is not None
    assert [factor(step / 40) for step in (0, 5, 10, 15, 20, 25, 30, 35, 40)] == [0.25, 1.0] * 4 + [0.25]


def test_peaks_halve_or_decay() -> None:
    ends = [0, 10, 20, 30]
    peaks = (5, 15, 25)
    assert [triangle(step, ends, 0.2, "triangular2") for step in peaks] == pytest.approx([1.0, 0.6, 0.4])
    exp = [triangle(step, ends, 0.0, "exp_range", 0.9) for step in peaks]
    assert exp == pytest.approx([0.9**5, 0.9**15, 0.9**25])


def test_settings_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ValidationError, match='gamma means nothing with mode = "triangular2"; remove it'):
        TriangularConfig(mode="triangular2", gamma=0.9)
    with pytest.raises(ValidationError, match="cycle is 0ep and must be longer"):
        TriangularConfig(cycle="0ep")
    with pytest.raises(ValueError, match=r"step is -1 and must lie in \[0, 10\]"):
        triangle(-1, [0, 10], 0.5)

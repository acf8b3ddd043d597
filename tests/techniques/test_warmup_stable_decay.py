"""Warm-up, stable, decay: the three parts and their bounds."""

import pytest
from pydantic import ValidationError

from etude.techniques.schedules.warmup_stable_decay import WarmupStableDecayConfig, stable_then_decay


@pytest.mark.parametrize(("shape", "half"), [("linear", 0.5), ("cosine", 0.5), ("sqrt", 1 - 0.5**0.5)])
def test_three_parts(shape: str, half: float) -> None:
    found = [stable_then_decay(p, 0.25, 0.5, shape, 0.2) for p in (0.0, 0.125, 0.25, 0.5, 0.75, 1.0)]
    assert found == pytest.approx([0.0, 0.5, 1.0, 1.0, 0.2 + 0.8 * half, 0.2])


def test_parts_may_be_left_out() -> None:
    assert [stable_then_decay(p, 0.0, 0.0) for p in (0.0, 0.5, 1.0)] == [1.0, 1.0, 1.0]


def test_parts_longer_than_the_run_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"warmup is 0.5 and decay 0.6, together more than the run"):
        WarmupStableDecayConfig(warmup=0.5, decay=0.6)
    with pytest.raises(ValueError, match=r"progress is 1.5 and must lie in \[0, 1\]"):
        stable_then_decay(1.5, 0.1, 0.1)

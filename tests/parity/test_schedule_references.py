"""Every schedule equals torch's or transformers' at every step of a run."""

import runpy
from pathlib import Path

import pytest

from etude.core.phases import SCHEDULE
from etude.techniques import catalogue

ROWS = list(runpy.run_path(str(Path(__file__).parents[2] / "benchmarks/parity/schedules.py"))["rows"]())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]} - {row[1]}")
def test_equals_the_reference(row: tuple[str, str, float]) -> None:
    name, reference, difference = row
    assert difference <= 1e-10, f"{name} and {reference} are {difference} apart"


def test_nothing_is_left_out() -> None:
    """A constant is one by definition, and nobody else has the growing cycles."""
    schedules = {name for name, t in catalogue().items() if t.facts.phase is SCHEDULE}
    checked = {name for name, _, _ in ROWS}
    assert len(ROWS) >= 21
    assert schedules - checked == {"constant", "growing_cycles"}

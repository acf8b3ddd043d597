"""Every loss equals its reference in float64, value by value, and none is forgotten."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from etude.techniques import catalogue

TABLE = Path(__file__).parents[2] / "benchmarks" / "parity" / "losses.py"


@pytest.fixture(scope="module")
def rows() -> list[tuple[str, str, float]]:
    spec = importlib.util.spec_from_file_location("parity_losses", TABLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Iterator[tuple[str, str, float]] = module.rows()
    return list(found)


def test_every_difference_is_rounding(rows: list[tuple[str, str, float]]) -> None:
    worst = max(rows, key=lambda row: row[2])
    assert worst[2] <= 1e-10, worst
    assert len(rows) >= 26


def test_every_loss_has_a_reference(rows: list[tuple[str, str, float]]) -> None:
    losses = {name for name, technique in catalogue().items() if technique.facts.family == "losses"}
    assert losses | {"float64_loss"} == {name for name, _, _ in rows}

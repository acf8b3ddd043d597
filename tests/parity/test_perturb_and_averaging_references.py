"""Perturbations, changes of gradients and averages against their references, in float64."""

import runpy
from pathlib import Path

import pytest

TABLES = Path(__file__).parents[2] / "benchmarks" / "parity"


@pytest.mark.parametrize(
    ("table", "techniques"),
    [
        ("perturb", {"sam", "asam", "looksam", "awp", "fgm"}),
        ("gradient", {"clip", "clip_value", "adaptive_clip", "gradient_noise"}),
        ("averaging", {"ema", "swa", "lawa", "soup"}),
    ],
)
def test_every_technique_is_within_rounding(table: str, techniques: set[str]) -> None:
    rows = list(runpy.run_path(str(TABLES / f"{table}.py"))["rows"]())
    assert {name for name, _, _ in rows} == techniques
    assert [row for row in rows if not row[2] <= 1e-10] == []

"""The table of all references: every difference is rounding or explained, and the script says so."""

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from etude.techniques import catalogue

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "reference_parity.py"
main = runpy.run_path(str(SCRIPT), run_name="reference_parity")["main"]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, list[dict[str, Any]]]:
    output = tmp_path_factory.mktemp("parity") / "results" / "table.json"
    code = main(["--output", str(output)])
    return code, json.loads(output.read_text())["rows"]


def test_every_difference_is_rounding_or_explained(written: tuple[int, list[dict[str, Any]]]) -> None:
    code, rows = written
    too_far = [row for row in rows if not row["difference"] <= 1e-10 and not row["reason"]]
    assert too_far == []
    assert code == 0
    assert len(rows) >= 60
    assert sum(bool(row["reason"]) for row in rows) <= len(rows) // 10


@pytest.mark.parametrize("family", ["losses", "optimizers", "averaging"])
def test_no_technique_of_a_family_is_forgotten(
    family: str, written: tuple[int, list[dict[str, Any]]]
) -> None:
    compared = {row["technique"] for row in written[1]}
    asked = {name for name, technique in catalogue().items() if technique.facts.family == family}
    assert asked <= compared
    assert compared <= set(catalogue())


@pytest.mark.parametrize(
    ("row", "code", "said"),
    [
        ('("a", "b", 2e-10)', 1, "FAILS"),
        ('("a", "b", float("nan"))', 1, "FAILS"),
        ('("a", "b", 2e-10, "it is float32")', 0, "(it is float32)"),
        ('("a", "b", 1e-11)', 0, "0 above 1e-10"),
    ],
)
def test_the_exit_code_tells(
    row: str, code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "family.py").write_text(f"def rows():\n    yield {row}\n")
    assert main(["--folder", str(tmp_path), "--output", str(tmp_path / "out.json")]) == code
    assert said in capsys.readouterr().out


def test_an_empty_table_is_no_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--folder", str(tmp_path), "--output", str(tmp_path / "out.json")]) == 1
    assert "no comparison was found" in capsys.readouterr().err

"""A technique of another package is found by its entry point and is a technique like all others."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent / "package"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process for which the package is really installed, in a folder of its own."""
    folder = tmp_path_factory.mktemp("plugin")
    source = folder / "source"
    # pip writes beside the sources.
    subprocess.run(["cp", "-r", str(PACKAGE), str(source)], check=True)
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation",
         "--disable-pip-version-check", "--target", str(folder / "site"), str(source)],
        check=True,
    )  # fmt: skip
    return {**os.environ, "PYTHONPATH": str(folder / "site"), "COLUMNS": "200", "OMP_NUM_THREADS": "1"}


def run(code: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, *code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_is_listed_and_shown(installed: dict[str, str]) -> None:
    assert "centralize" in run(["-m", "etude", "techniques"], installed)
    card = run(["-m", "etude", "show", "centralize"], installed)
    assert "Yong et al. 2020" in card
    assert "strength" in card


def test_it_passes_every_check_and_trains(installed: dict[str, str]) -> None:
    program = """
from etude.techniques import technique_class
from etude.testing import technique_suite as suite
from etude.testing.harness import Setup, train
found = technique_class("centralize")
for check in suite.all_checks():
    check(found)
assert suite.difference(train({found: {}}, Setup()), train({}, Setup())) > 0
print("all checks", len(suite.all_checks()))
"""
    assert run(["-c", program], installed) == "all checks 13\n"


def test_without_the_package_there_is_no_such_technique() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "etude", "show", "centralize"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "there is no technique 'centralize'" in done.stderr

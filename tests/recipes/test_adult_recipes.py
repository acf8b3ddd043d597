"""The recipes of trees and logistic regression are valid, and open with what they need to say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from etude.config.load import load_config
from etude.core.task import Binary
from etude.runs.resolve import resolve_techniques

FOLDER = Path(__file__).parents[2] / "recipes" / "tables"


@pytest.mark.parametrize("name", ["adult_trees", "adult_linear"])
def test_a_recipe_resolves_and_opens_with_command_time_and_score(name: str) -> None:
    recipe = FOLDER / f"{name}.toml"
    assert [one.key() for one in resolve_techniques(load_config(recipe), Binary(["a", "b"]))] == [
        "cross_entropy"
    ]
    head = "\n".join(line for line in recipe.read_text(encoding="utf-8").splitlines() if line.startswith("#"))
    assert f"etude train recipes/tables/{name}.toml" in head
    for word in ("Time: ", "Score: ", "Rival: "):
        assert word in head, word
    assert re.search(r"\d\.\d+ ± \d\.\d+.* 3 seeds", head.replace("\n#", " "))

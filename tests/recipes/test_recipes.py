"""Every recipe is a valid config whose techniques resolve, and opens with what it needs to say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from etude.config.load import load_config
from etude.core.task import Multiclass, Multilabel
from etude.runs.resolve import resolve_techniques

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))


def test_the_recipes_are_there() -> None:
    assert len(RECIPES) >= 7


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_resolves(recipe: Path) -> None:
    config = load_config(recipe)
    task = Multilabel(["a", "b"]) if config.task == "multilabel" else Multiclass(["a", "b"])
    names = {technique.key() for technique in resolve_techniques(config, task)}
    assert {"adamw", "linear", "no_decay", "length_buckets"} <= names


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_opens_with_command_time_and_score(recipe: Path) -> None:
    head = [line for line in recipe.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    text = "\n".join(head)
    assert f"etude train recipes/{recipe.name}" in text
    for word in ("Time: ", "Score: "):
        assert word in text, word
    # A score over several seeds comes with its error; one seed must own up to it.
    assert re.search(r"\d\.\d ± \d\.\d.* 3 seeds|one seed", text.replace("\n#", " ")), text

"""The recipes of networks over tables are valid, and open with what they need to say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from etude.config.load import load_config
from etude.core.task import Binary, Multilabel
from etude.runs.resolve import resolve_techniques

FOLDER = Path(__file__).parents[2] / "recipes" / "tables"
RECIPES = [path for path in sorted(FOLDER.glob("*.toml")) if load_config(path).backbone.kind == "table"]


def test_the_recipes_are_there() -> None:
    assert {path.stem for path in RECIPES} >= {
        "adult_ft_transformer",
        "adult_mlp",
        "birds",
        "german_credit",
        "music_emotions",
        "telco_churn",
        "titanic",
    }


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_resolves_and_opens_with_command_time_and_score(recipe: Path) -> None:
    config = load_config(recipe)
    task = Multilabel(["a", "b"]) if config.task == "multilabel" else Binary(["a", "b"])
    names = {technique.key() for technique in resolve_techniques(config, task)}
    assert {"adamw", "linear", "no_decay", "warmup", "clip"} <= names
    head = "\n".join(line for line in recipe.read_text(encoding="utf-8").splitlines() if line.startswith("#"))
    assert f"etude train recipes/tables/{recipe.name}" in head
    for word in ("Time: ", "Score: ", "Rival: "):
        assert word in head, word
    assert re.search(r"\d ± .*( 3 seeds| 5 folds)|one seed", head.replace("\n#", " "))

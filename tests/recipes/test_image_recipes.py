"""The recipes of images: each is a valid config whose techniques resolve, and names its command."""

from pathlib import Path

import pytest

from etude.config.load import load_config
from etude.core.task import Multiclass
from etude.runs.resolve import resolve_techniques

ROOT = Path(__file__).parents[2] / "recipes"
RECIPES = sorted([*(ROOT / "images").glob("*.toml"), *(ROOT / "mnist").glob("*.toml")])


def test_the_recipes_are_there() -> None:
    assert len(RECIPES) >= 11


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_recipe_resolves_and_opens_with_its_command(recipe: Path) -> None:
    config = load_config(recipe)
    assert config.backbone.kind == "image"
    names = {technique.key() for technique in resolve_techniques(config, Multiclass(list("0123456789")))}
    assert "adamw" in names
    head = recipe.read_text(encoding="utf-8").split("\n\n")[0]
    assert f"train recipes/{recipe.parent.name}/{recipe.name}" in head
    if recipe.parent.name == "mnist" and recipe.stem not in ("base", "teacher"):
        assert names > {"cross_entropy"}

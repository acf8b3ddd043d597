"""The recipe of stages: every stage resolves, and it claims nothing that was not measured."""

from pathlib import Path

from etude.config.load import load_config
from etude.config.stages import resolve_stages
from etude.runs.resolve import resolve_techniques

RECIPE = Path(__file__).parents[2] / "recipes" / "stages" / "trec_staged.toml"


def test_every_stage_resolves() -> None:
    stages = resolve_stages(load_config(RECIPE))
    assert [stage.name for stage in stages] == ["pretrain", "head", "all"]
    assert all(resolve_techniques(stage.config, None) for stage in stages if stage.knows_labels)


def test_it_opens_with_its_command_and_claims_no_score() -> None:
    text = RECIPE.read_text(encoding="utf-8")
    assert "etude train recipes/stages/trec_staged.toml" in text
    assert "not measured" in text
